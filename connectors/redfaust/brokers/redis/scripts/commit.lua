-- Move a group's position, but not back, and keep its lag true.
-- KEYS[1] the stream; ARGV: group, ID of the last finished entry, entries finished since last time
local stream, group, id, finished = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

local function set_back()
  return redis.error_reply('SETBACK ' .. stream .. ' ends before the position ' .. id)
end

if redis.call('EXISTS', stream) == 0 then
  if is_beyond(id, '0-0') then return set_back() end
  return redis.call('XGROUP', 'CREATE', stream, group, id, 'MKSTREAM')
end

local info = redis.call('XINFO', 'STREAM', stream)
if is_beyond(id, field(info, 'last-generated-id')) then return set_back() end
local read, delivered
for _, g in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if field(g, 'name') == group then
    read, delivered = field(g, 'entries-read') or -1, field(g, 'last-delivered-id')
  end
end
if read == nil then
  return redis.call('XGROUP', 'CREATE', stream, group, id)
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
