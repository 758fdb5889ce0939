-- Claim new entries of a shared group.
-- KEYS[1] the stream; ARGV: group, consumer, how many
-- Returns the entries and the ID of the stream's last one; or nothing if there is no such group.
local stream, group, consumer, count = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local read = redis.pcall(
  'XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', stream, '>')
if read and read.err then
  if string.find(read.err, 'NOGROUP') then return false end
  return read
end

local info, last = redis.call('XINFO', 'STREAM', stream), '0-0'
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = info[i + 1] end
end
return {read and read[1][2] or {}, last}
