-- Append entries of a lane to a stream, and move the lane's mark, if the mark is what it is expected
-- to be. The mark is the source of the lane's last entry; numbers are compared by the caller alone.
-- KEYS[1] the stream, KEYS[2] the marks of its lanes
-- ARGV: lane, the mark as it is expected (empty: none), then for each entry: how many fields and
-- values follow, these, of which the last value is its source
-- Returns OK and an ID at or behind the lane's last entry; or MARK and the mark that is there, and
-- nothing has changed; or BLOCKED and why nothing can be appended to this stream; or REFUSED, which
-- of the entries (from 1) and why. What lies before such an entry is appended.
local stream, marks, lane, expected = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local LONGEST_MARK = 512 -- bytes; what is longer is none, and is not handed around

local blocked = why_blocked(stream, marks)
if blocked then return {'BLOCKED', blocked} end

local mark = redis.call('HGET', marks, lane) or ''
if #mark > LONGEST_MARK then mark = '' end
if mark ~= expected then return {'MARK', mark} end

-- An error behind the first entry must not leave the mark behind what was appended.
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
if source then redis.call('HSET', marks, lane, source) end
if failure then return failure end

if not id and redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then id = info[i + 1] end
  end
end
return {'OK', id or '0-0'}
