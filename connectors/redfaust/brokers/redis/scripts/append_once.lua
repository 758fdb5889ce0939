-- Append entries of a producer to a stream, and move the producer's last sequence, if the last sequence is what it is expected
-- to be. The last sequence is the source of the producer's last entry; numbers are compared by the caller alone.
-- KEYS[1] the stream, KEYS[2] the last sequences of its producers
-- ARGV: the producer's id, the last sequence as it is expected (empty: none), then for each entry: how many fields and
-- values follow, these, of which the last value is its source
-- Returns OK and an ID at or behind the producer's last entry; or SEQUENCE and the last sequence that is there, and
-- nothing has changed; or BLOCKED and why nothing can be appended to this stream; or REFUSED, which
-- of the entries (from 1) and why. What lies before such an entry is appended.
local stream, producers, producer_id, expected = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local LONGEST_SEQUENCE = 512 -- bytes; what is longer is none, and is not handed around

local blocked = why_blocked(stream, producers)
if blocked then return {'BLOCKED', blocked} end

local last_sequence = redis.call('HGET', producers, producer_id) or ''
if #last_sequence > LONGEST_SEQUENCE then last_sequence = '' end
if last_sequence ~= expected then return {'SEQUENCE', last_sequence} end

-- An error behind the first entry must not leave the last sequence behind what was appended.
local source, id, failure = nil, nil, nil
local at, count = 3, 0
while at <= #ARGV do
  local last = at + ARGV[at]
  local reply = redis.pcall('XADD', stream, '*', unpack(ARGV, at + 1, last))
  count = count + 1
  if type(reply) == 'table' and reply.err then
    failure = reply
    if string.find(reply.err, 'last possible ID') then
      failure = {'BLOCKED', why_ended(stream)}
    elseif string.find(reply.err, '^ERR ') and not string.find(reply.err, 'ACL failure')
      and not string.find(reply.err, 'The user executing') then
      -- Other codes (OOM, READONLY) and missing rights say nothing about the entry.
      failure = {'REFUSED', count, reply.err}
    end
    break
  end
  source, id = ARGV[last], reply
  at = last + 1
end
if source then redis.call('HSET', producers, producer_id, source) end
if failure then return failure end

if not id and redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then id = info[i + 1] end
  end
end
return {'OK', id or '0-0'}
