-- Look at a shared group's place.
-- KEYS[1] the stream; ARGV: group, milliseconds after which a claim has ended
-- Returns how many claims have ended (1: some), and the ID of the stream's last entry; or nothing if
-- there is no such group.
local stream, group, idle = KEYS[1], ARGV[1], ARGV[2]

local pending = redis.pcall('XPENDING', stream, group, 'IDLE', idle, '-', '+', 1)
if pending.err then
  if string.find(pending.err, 'NOGROUP') then return false end
  return pending
end
return { #pending, field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id') }
