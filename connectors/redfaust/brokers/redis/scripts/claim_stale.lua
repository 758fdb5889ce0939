-- Claim entries of a shared group that nobody has renewed for a while.
-- KEYS[1] the stream; ARGV: group, consumer, milliseconds of that while, how many at most, bytes after
-- which no more are claimed
-- Returns of each entry: itself, and how often it has been claimed. Entries that are gone from the
-- stream are struck off the list of what is claimed.
local stream, group, consumer, idle, count = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local room = tonumber(ARGV[5])

local pending = redis.pcall('XPENDING', stream, group, 'IDLE', idle, '-', '+', count)
if pending.err then
  if string.find(pending.err, 'NOGROUP') then return {} end
  return pending
end

local claims = {}
for _, entry in ipairs(pending) do
  if room <= 0 then break end
  local id, deliveries = entry[1], entry[4]
  local claimed = redis.call('XCLAIM', stream, group, consumer, idle, id)
  if claimed[1] then
    claims[#claims + 1] = { claimed[1], deliveries + 1 }
    room = room - size_of(claimed[1])
  end
end
return claims
