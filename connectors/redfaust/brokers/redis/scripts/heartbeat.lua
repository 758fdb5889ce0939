-- Note a member's heartbeat, forget those that have long been silent, and return the group's state.
-- KEYS: the assignment, the heartbeats; ARGV: member (empty: none), number, JSON, milliseconds after which
-- silence is forgotten
-- Anybody may write heartbeats. What has no time, or one to come, is forgotten at once.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local heartbeats = redis.call('HGETALL', KEYS[2])

local function is_forgotten(heartbeat)
  -- A heartbeat's head is short: a pattern would look through all of what somebody has put there.
  local at = tonumber(string.match(string.sub(heartbeat, 1, 64), '^%d+ (%d+) '))
  return not at or math.abs(now - at) > tonumber(ARGV[4])
end

if ARGV[1] ~= '' then
  local heartbeat = string.format('%s %.0f %s', ARGV[2], now, ARGV[3])
  redis.call('HSET', KEYS[2], ARGV[1], heartbeat)
  local heard = { ARGV[1], heartbeat }
  for i = 1, #heartbeats, 2 do
    if heartbeats[i] ~= ARGV[1] then
      if is_forgotten(heartbeats[i + 1]) then
        redis.call('HDEL', KEYS[2], heartbeats[i])
      else
        heard[#heard + 1] = heartbeats[i]
        heard[#heard + 1] = heartbeats[i + 1]
      end
    end
  end
  heartbeats = heard
end
return { redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1), heartbeats, now }
