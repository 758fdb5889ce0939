-- Append what a lane has not put on a stream yet, and move its mark.
-- KEYS[1] the stream, KEYS[2] the marks of its lanes
-- ARGV: lane, then for each entry: number, how many fields and values follow, these
local stream, marks, lane = KEYS[1], KEYS[2], ARGV[1]

local function refuse_unless(key, wanted)
  local found = redis.call('TYPE', key).ok
  if found ~= wanted and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. wanted)
  end
end
local refusal = refuse_unless(stream, 'stream') or refuse_unless(marks, 'hash')
if refusal then return refusal end

local mark = tonumber(redis.call('HGET', marks, lane) or '0')
if not mark then return redis.error_reply('ERR the mark of a lane in ' .. marks .. ' is no number') end

-- An error behind the first entry must not leave the mark behind what was appended.
local last, failure = mark, nil
local at = 2
while at <= #ARGV and not failure do
  local number, length = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if number > last then
    local reply = redis.pcall('XADD', stream, '*', unpack(ARGV, at + 2, at + 1 + length))
    if type(reply) == 'table' and reply.err then failure = reply else last = number end
  end
  at = at + 2 + length
end
if last > mark then redis.call('HSET', marks, lane, string.format('%.0f', last)) end
return failure or redis.status_reply('OK')
