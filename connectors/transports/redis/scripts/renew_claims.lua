-- Hold on to claimed entries of a shared group.
-- KEYS[1] the stream; ARGV: group, consumer, IDs
-- Returns the IDs of those that somebody else has claimed.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local lost = {}
for i = 3, #ARGV do
  local pending = redis.pcall('XPENDING', stream, group, ARGV[i], ARGV[i], 1)
  if pending.err then
    if string.find(pending.err, 'NOGROUP') then return {} end
    return pending
  end
  local owner = pending[1] and pending[1][2]
  if owner == consumer then
    redis.call('XCLAIM', stream, group, consumer, 0, ARGV[i], 'JUSTID')
  elseif owner then
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
