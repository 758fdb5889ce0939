-- Note a member's beat, forget those that have long been silent, and tell the group's roll.
-- KEYS: the register, the beats; ARGV: member (empty: none), number, JSON, milliseconds after which
-- silence is forgotten
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local beats = redis.call('HGETALL', KEYS[2])
if ARGV[1] ~= '' then
  local beat = string.format('%s %d %s', ARGV[2], now, ARGV[3])
  redis.call('HSET', KEYS[2], ARGV[1], beat)
  local heard = { ARGV[1], beat }
  for i = 1, #beats, 2 do
    if beats[i] ~= ARGV[1] then
      local at = tonumber(string.match(beats[i + 1], '^%d+ (%d+) '))
      if not at or now - at > tonumber(ARGV[4]) then
        redis.call('HDEL', KEYS[2], beats[i])
      else
        table.insert(heard, beats[i])
        table.insert(heard, beats[i + 1])
      end
    end
  end
  beats = heard
end
return { redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1), beats, now }
