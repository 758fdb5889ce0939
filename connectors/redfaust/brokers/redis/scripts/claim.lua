-- Claim new entries of a shared group.
-- KEYS[1] the stream; ARGV: group, consumer, how many at most, bytes after which no more are claimed
-- Returns the entries, and the ID of the stream's last one if they are all that was there (else
-- nothing); or nothing if there is no such group.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local count, room = tonumber(ARGV[3]), tonumber(ARGV[4])

local AT_A_TIME = 16 -- entries of which only the first may fit

local entries, size, last = {}, 0, nil
while #entries < count and size < room and not last do
  local limit = math.min(count - #entries, AT_A_TIME)
  local read = redis.pcall(
    'XREADGROUP', 'GROUP', group, consumer, 'COUNT', limit, 'STREAMS', stream, '>')
  if read and read.err then
    if #entries > 0 then break end -- they are claimed
    if string.find(read.err, 'NOGROUP') then return false end
    return read
  end
  local news = read and read[1][2] or {}
  for _, entry in ipairs(news) do
    entries[#entries + 1] = entry
    size = size + size_of(entry)
  end
  if #news < limit then last = field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id') end
end
return { entries, last or false }
