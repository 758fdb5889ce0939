-- Have done with entries of a shared group that are claimed by this consumer still. What is sent by
-- one that outlived its claim would otherwise take the entry from its heir.
-- KEYS[1] the stream; ARGV: group, consumer, IDs
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local acked = 0
for i = 3, #ARGV do
  local mine = redis.pcall('XPENDING', stream, group, ARGV[i], ARGV[i], 1, consumer)
  if mine.err then
    if string.find(mine.err, 'NOGROUP') then return 0 end
    return mine
  end
  if mine[1] then acked = acked + redis.call('XACK', stream, group, ARGV[i]) end
end
return acked
