-- Note a member's beat, forget those that have long been silent, and tell the group's roll.
-- KEYS: the register, the beats; ARGV: member (empty: none), number, JSON, milliseconds after which
-- silence is forgotten
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    local heard = tonumber(string.match(all[i + 1], '^%d+ (%d+) '))
    if not heard or now - heard > tonumber(ARGV[4]) then redis.call('HDEL', KEYS[2], all[i]) end
  end
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%s %d %s', ARGV[2], now, ARGV[3]))
end
return { redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1), redis.call('HGETALL', KEYS[2]), now }
