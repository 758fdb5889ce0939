-- Remove entries of which there is a later one with the same key, but none that a group needs.
-- KEYS[1] the stream, KEYS[2] what is known of it; ARGV: milliseconds for which a deletion stays,
-- entries to look at, 1 if the stream is trimmed as well
-- Returns how many were removed, and 1 if there are more to look at.
--
-- The hash has 'k' and a key → the ID of its last entry; 'seen' → the ID up to which that is so;
-- 'cleaned' → the ID up to which no deletion is left; 'scanned' → where it is looked through itself.
local stream, known = KEYS[1], KEYS[2]
local kept_for, limit, is_trimmed = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'

if redis.call('EXISTS', stream) == 0 then return { 0, 0 } end
local info = redis.call('XINFO', 'STREAM', stream)
local length, newest = field(info, 'length'), field(info, 'last-generated-id')
if length == 0 then return { 0, 0 } end
local seen = redis.call('HGET', known, 'seen') or '0-0'
if is_beyond(seen, newest) then -- of another stream of this name
  redis.call('DEL', known)
  seen = '0-0'
end
local bytes = redis.call('MEMORY', 'USAGE', stream)
limit = math.max(1, math.min(limit, math.floor(AT_ONCE * length / bytes)))

local function key_of(fields)
  if not field(fields, '_v') and not field(fields, '_n') then return nil end -- its fields are its own
  local key = field(fields, '_k')
  return key and 'k' .. key
end

local removed = 0
local floor, _, is_claimed = floor_of(stream, newest)
local more = 0
if is_beyond(floor, seen) then
  local upto = (is_claimed and '(' or '') .. floor
  local entries = redis.call('XRANGE', stream, '(' .. seen, upto, 'COUNT', limit)
  for _, entry in ipairs(entries) do
    local key = key_of(entry[2])
    if key then
      local before = redis.call('HGET', known, key)
      if before then removed = removed + redis.call('XDEL', stream, before) end
      redis.call('HSET', known, key, entry[1])
    end
    seen = entry[1]
  end
  redis.call('HSET', known, 'seen', seen)
  if #entries == limit then more = 1 end
end

-- Deletions that are old enough. The newest entry stays, so that the end of the stream is one.
local cleaned, old = redis.call('HGET', known, 'cleaned') or '0-0', older_than(kept_for)
if is_beyond(old, seen) then old = seen end
if is_beyond(old, cleaned) then
  local entries = redis.call('XRANGE', stream, '(' .. cleaned, old, 'COUNT', limit)
  if #entries == limit then more = 1 end
  for _, entry in ipairs(entries) do
    local id, fields = unpack(entry)
    if id == newest then break end
    local key = not field(fields, '_v') and key_of(fields)
    if key and redis.call('HGET', known, key) == id then
      removed = removed + redis.call('XDEL', stream, id)
      redis.call('HDEL', known, key)
    end
    cleaned = id
  end
  redis.call('HSET', known, 'cleaned', cleaned)
end

-- Keys of which nothing is left, as their entries were trimmed.
if is_trimmed then
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local at = redis.call('HGET', known, 'scanned') or '0'
  local found = redis.call('HSCAN', known, at, 'COUNT', limit)
  for i = 1, #found[2], 2 do
    local name, id = found[2][i], found[2][i + 1]
    if string.sub(name, 1, 1) == 'k' and first and is_beyond(first[1], id) then
      redis.call('HDEL', known, name)
    end
  end
  redis.call('HSET', known, 'scanned', found[1])
end
return { removed, more }
