-- Append entries to a stream.
-- KEYS[1] the stream
-- ARGV for each entry: how many fields and values follow, these
-- Returns for each its ID, or why it is refused. Of an error that says nothing about entries (OOM,
-- READONLY, NOPERM) nothing but that: those before it may be there.
local stream, replies = KEYS[1], {}
local at = 1
while at <= #ARGV do
  local last = at + ARGV[at]
  local reply = redis.pcall('XADD', stream, '*', unpack(ARGV, at + 1, last))
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, '^ERR ') and not string.find(reply.err, '^WRONGTYPE ') then
      return reply
    end
  end
  replies[#replies + 1] = reply
  at = last + 1
end
return replies
