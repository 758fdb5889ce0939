-- How many entries a stream holds, and where a group stands in it.
-- KEYS[1] the stream; ARGV: group
-- Returns the length, and if the group has a place: the ID up to which it was delivered, how many
-- entries its consumers have in hand, and its lag (-1: unknown). What is no stream holds nothing.
local stream, group = KEYS[1], ARGV[1]

if redis.call('TYPE', stream).ok ~= 'stream' then return { 0 } end
local length = redis.call('XLEN', stream)
for _, g in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if field(g, 'name') == group then
    local delivered, lag = field(g, 'last-delivered-id'), field(g, 'lag')
    if not lag then -- entries were deleted ahead of it
      local last = field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
      lag = is_beyond(last, delivered) and -1 or 0
    end
    return { length, delivered, field(g, 'pending'), lag }
  end
end
return { length }
