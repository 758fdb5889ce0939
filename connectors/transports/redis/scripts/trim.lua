-- Remove the oldest entries of a stream that has too many, but none that a group needs.
-- KEYS[1] the stream; ARGV: the bounds, in milliseconds, bytes, entries (-1: none), and how many
-- entries may be removed now (0: only look)
-- Returns how many were removed, 1 if more could be, and if groups hold something back: the bound,
-- how much there is, the groups.
local stream = KEYS[1]
local age, size, entries = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local limit = tonumber(ARGV[4])
local AT_ONCE = 1048576 -- bytes that are looked through, since Lua gets them all

local function field(flat, name)
  for i = 1, #flat, 2 do
    if flat[i] == name then return flat[i + 1] end
  end
end

-- As texts, since a number of Lua does not hold 64 bits: longer is larger.
local function split(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return { #ms, ms, #seq, seq }
end
local function is_beyond(one, other)
  local a, b = split(one), split(other)
  for i = 1, 4 do
    if a[i] ~= b[i] then return a[i] > b[i] end
  end
  return false
end

if redis.call('EXISTS', stream) == 0 then return { 0, 0 } end
local info = redis.call('XINFO', 'STREAM', stream)
local length, last = field(info, 'length'), field(info, 'last-generated-id')
if length == 0 then return { 0, 0 } end

-- What lies before the floor may go. The newest entry is never before it.
local floor, holders, is_claimed = last, {}, false
for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local name, at, claimed = field(group, 'name'), field(group, 'last-delivered-id'), false
  if field(group, 'pending') > 0 then
    local oldest = redis.call('XPENDING', stream, name)[2]
    if not is_beyond(oldest, at) then at, claimed = oldest, true end
  end
  if is_beyond(floor, at) then floor, holders, is_claimed = at, {}, false end
  if floor == at then
    holders[#holders + 1] = name
    is_claimed = is_claimed or claimed
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest_kept = '0-0'
if age >= 0 and now > age then oldest_kept = string.format('%.0f-0', now - age) end

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
local needed = redis.call('XRANGE', stream, (is_claimed and '' or '(') .. floor, '+', 'COUNT', 1)[1]
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
