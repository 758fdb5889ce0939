-- Remove the oldest entries of a stream that has too many, but none that a group needs.
-- KEYS[1] the stream; ARGV: the bounds, in milliseconds, bytes, entries (-1: none), and how many
-- entries may be removed now (0: only look)
-- Returns how many were removed, 1 if more could be, and if groups hold something back: the bound,
-- how much there is, the groups.
local stream = KEYS[1]
local age, size, entries = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local limit = tonumber(ARGV[4])

if redis.call('EXISTS', stream) == 0 then return { 0, 0 } end
local info = redis.call('XINFO', 'STREAM', stream)
local length, last = field(info, 'length'), field(info, 'last-generated-id')
if length == 0 then return { 0, 0 } end

local floor, holders, is_claimed = floor_of(stream, last)
local oldest_kept, now = older_than(age)
if age < 0 then oldest_kept = '0-0' end

local bytes = redis.call('MEMORY', 'USAGE', stream)
local too_large = size >= 0 and math.ceil((bytes - size) * length / bytes) or 0
local too_many = entries >= 0 and length - entries or 0
local excess = math.max(too_large, too_many)

local removed, more = 0, 0
if limit > 0 then
  local target, found = oldest_kept, nil
  if excess > 0 then
    found = math.max(1, math.min(excess, limit, math.floor(AT_ONCE * length / bytes)))
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', found + 1)
    local id = oldest[#oldest][1]
    if is_beyond(id, target) then target = id end
  end
  if is_beyond(target, floor) then target = floor end
  -- Whole blocks first: there may be too many for one go.
  removed = redis.call('XTRIM', stream, 'MINID', '~', target, 'LIMIT', limit)
  if removed < limit / 2 then
    removed = removed + redis.call('XTRIM', stream, 'MINID', '=', target)
    if found and found < excess and removed >= found then more = 1 end
  else
    more = 1
  end
end

local function held_back(bound, amount)
  return { removed, more, bound, string.format('%.0f', amount), unpack(holders) }
end
if #holders == 0 then return { removed, more } end
-- Behind the last possible ID there is nothing, and Redis takes it for no interval.
local is_end = floor == '18446744073709551615-18446744073709551615' and not is_claimed
local needed = not is_end
  and redis.call('XRANGE', stream, (is_claimed and '' or '(') .. floor, '+', 'COUNT', 1)[1]
if not needed then return { removed, more } end
if is_beyond(oldest_kept, needed[1]) then
  return held_back('age', now - tonumber(string.match(needed[1], '^%d+')))
end
-- With nothing before the floor, all that is there is needed, but for the entry at the floor.
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1]
if is_beyond(floor, first) then return { removed, more } end
if too_many - removed > 1 then return held_back('entries', length - removed) end
if too_large - removed > 1 then return held_back('size', redis.call('MEMORY', 'USAGE', stream)) end
return { removed, more }
