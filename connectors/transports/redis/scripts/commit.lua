-- Move a group's position, but not back, and keep its lag true.
-- KEYS[1] the stream; ARGV: group, ID of the last finished entry, entries finished since last time
local stream, group, id, finished = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('EXISTS', stream) == 0 then
  return redis.call('XGROUP', 'CREATE', stream, group, id, 'MKSTREAM')
end

local function field(flat, name)
  for i = 1, #flat, 2 do
    if flat[i] == name then return flat[i + 1] end
  end
end

local info = redis.call('XINFO', 'STREAM', stream)
local read, delivered
for _, g in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if field(g, 'name') == group then
    read, delivered = field(g, 'entries-read') or -1, field(g, 'last-delivered-id')
  end
end
if read == nil then
  return redis.call('XGROUP', 'CREATE', stream, group, id)
end

-- As texts, since a number of Lua does not hold 64 bits: longer is larger.
local function split(whole)
  local ms, seq = string.match(whole, '^(%d+)-(%d+)$')
  return { #ms, ms, #seq, seq }
end
local function is_beyond(one, other)
  local a, b = split(one), split(other)
  for i = 1, 4 do
    if a[i] ~= b[i] then return a[i] > b[i] end
  end
  return false
end
if is_beyond(id, field(info, 'last-generated-id')) then
  return redis.error_reply('SETBACK ' .. stream .. ' ends before the position ' .. id)
end
if not is_beyond(id, delivered) then return 'PASSED' end

if field(info, 'last-generated-id') == id then
  -- At the end the count is known whatever was deleted on the way.
  read = field(info, 'entries-added')
elseif read >= 0 then
  read = read + finished
end
if read < 0 then
  return redis.call('XGROUP', 'SETID', stream, group, id)
end
return redis.call('XGROUP', 'SETID', stream, group, id, 'ENTRIESREAD', read)
