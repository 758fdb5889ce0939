-- Tell why nothing can be appended to a log as it is.
-- KEYS[1] the stream, KEYS[2] the last sequences of its producers
-- Returns the reason, or an empty text.
local blocked = why_blocked(KEYS[1], KEYS[2])
if not blocked and redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' and info[i + 1] == LAST_ID then blocked = why_ended(KEYS[1]) end
  end
end
return blocked or ''
