-- Hold on to claimed entries of a shared group.
-- KEYS[1] the stream; ARGV: group, consumer, IDs
-- Returns the IDs of those that are not this consumer's any more.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local lost = {}
for i = 3, #ARGV do
  local mine = redis.pcall('XPENDING', stream, group, ARGV[i], ARGV[i], 1, consumer)
  if mine.err and not string.find(mine.err, 'NOGROUP') then return mine end
  if mine[1] then
    redis.call('XCLAIM', stream, group, consumer, 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
