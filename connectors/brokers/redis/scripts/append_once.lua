-- Append what a lane has not put on a stream yet, and move its mark.
-- KEYS[1] the stream, KEYS[2] the marks of its lanes
-- ARGV: lane, the mark below which entries were lost, then for each entry: number, how many fields
-- and values follow, these
-- Returns OK, the mark and an ID at or behind the lane's last entry; or SETBACK, and nothing has
-- changed; or REFUSED, the number (0: of all entries) and why, and what lies before is appended.
local stream, marks, lane, after = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])

local function is_refused_unless(key, wanted)
  local found = redis.call('TYPE', key).ok
  if found ~= wanted and found ~= 'none' then
    return {'REFUSED', '0', 'WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. wanted}
  end
end
local refusal = is_refused_unless(stream, 'stream') or is_refused_unless(marks, 'hash')
if refusal then return refusal end

local mark = tonumber(redis.call('HGET', marks, lane) or '0')
if not mark then return {'REFUSED', '0', 'the mark of a lane in ' .. marks .. ' is no number'} end
if mark < after then return {'SETBACK'} end

-- An error behind the first entry must not leave the mark behind what was appended.
local last, id, failure = mark, nil, nil
local at = 3
while at <= #ARGV do
  local number, length = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if number > last then
    local reply = redis.pcall('XADD', stream, '*', unpack(ARGV, at + 2, at + 1 + length))
    if type(reply) == 'table' and reply.err then
      failure = reply
      -- Other codes (OOM, READONLY, NOPERM) say nothing about the entry.
      if string.find(reply.err, '^ERR ') then failure = {'REFUSED', ARGV[at], reply.err} end
      break
    end
    last, id = number, reply
  end
  at = at + 2 + length
end
if last > mark then redis.call('HSET', marks, lane, string.format('%.0f', last)) end
if failure then return failure end

if not id and redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then id = info[i + 1] end
  end
end
return {'OK', string.format('%.0f', last), id or '0-0'}
