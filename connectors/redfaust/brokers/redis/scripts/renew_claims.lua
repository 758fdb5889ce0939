-- Hold on to claimed entries of a shared group.
-- KEYS[1] the stream; ARGV: group, consumer, IDs
-- Returns the IDs of those that are not this consumer's any more. An entry that was deleted is
-- nobody else's: Redis strikes it off the list of what is claimed when it is asked for.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local function is_lost(id)
  local claims = redis.pcall('XPENDING', stream, group, id, id, 1)
  if claims.err then
    if not string.find(claims.err, 'NOGROUP') then return claims end
    claims = {}
  end
  if claims[1] then
    if claims[1][2] ~= consumer then return true end
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
    return false
  end
  return redis.call('XRANGE', stream, id, id)[1] ~= nil
end

local lost = {}
for i = 3, #ARGV do
  local answer = is_lost(ARGV[i])
  if type(answer) == 'table' then return answer end
  if answer then lost[#lost + 1] = ARGV[i] end
end
return lost
