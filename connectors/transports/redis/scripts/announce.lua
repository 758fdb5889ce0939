-- Say that a member is there, and forget those that have long been silent.
-- KEYS[1] the members; ARGV: member, JSON, milliseconds after which silence is forgotten
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local seen = tonumber(string.match(all[i + 1], '^(%d+) '))
  if not seen or now - seen > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
end
return redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %s', now, ARGV[2]))
