-- Note a member's beat, forget those that have long been silent, and tell the group's roll.
-- KEYS: the register, the beats; ARGV: member (empty: none), number, JSON, milliseconds after which
-- silence is forgotten
-- Anybody may write beats. What has no time, or one to come, is forgotten at once.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local beats = redis.call('HGETALL', KEYS[2])

local function is_forgotten(beat)
  -- A beat's head is short: a pattern would look through all of what somebody has put there.
  local at = tonumber(string.match(string.sub(beat, 1, 64), '^%d+ (%d+) '))
  return not at or math.abs(now - at) > tonumber(ARGV[4])
end

if ARGV[1] ~= '' then
  local beat = string.format('%s %.0f %s', ARGV[2], now, ARGV[3])
  redis.call('HSET', KEYS[2], ARGV[1], beat)
  local heard = { ARGV[1], beat }
  for i = 1, #beats, 2 do
    if beats[i] ~= ARGV[1] then
      if is_forgotten(beats[i + 1]) then
        redis.call('HDEL', KEYS[2], beats[i])
      else
        heard[#heard + 1] = beats[i]
        heard[#heard + 1] = beats[i + 1]
      end
    end
  end
  beats = heard
end
return { redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1), beats, now }
