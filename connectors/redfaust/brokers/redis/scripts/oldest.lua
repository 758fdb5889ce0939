-- Milliseconds since the oldest entry was appended that a group has not finished; false if there is
-- none. KEYS[1] the stream; ARGV: the group, the ID of the last entry delivered to it, entries that
-- its consumers have in hand
local stream, group, delivered = KEYS[1], ARGV[1], ARGV[2]
local id
if ARGV[3] ~= '0' then
  id = redis.call('XPENDING', stream, group)[2]
end
-- Behind the last possible ID there is nothing, and Redis takes it for no interval.
if not id and delivered ~= '18446744073709551615-18446744073709551615' then
  local next = redis.call('XRANGE', stream, '(' .. delivered, '+', 'COUNT', 1)[1]
  id = next and next[1]
end
if not id then return false end
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(string.match(id, '^%d+'))
