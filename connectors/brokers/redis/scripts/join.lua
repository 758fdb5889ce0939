-- Give a group a position if it has none.
-- KEYS[1] the stream; ARGV: group, 'start' or 'end'
local stream, group, where = KEYS[1], ARGV[1], ARGV[2]

if redis.call('EXISTS', stream) == 0 then
  return redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM', 'ENTRIESREAD', 0)
end
for _, g in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if field(g, 'name') == group then return 'OK' end
end
if where == 'end' then
  return redis.call('XGROUP', 'CREATE', stream, group, '$')
end
-- What was trimmed before the group came does not count as its lag.
local info = redis.call('XINFO', 'STREAM', stream)
local trimmed = field(info, 'entries-added') - field(info, 'length')
return redis.call('XGROUP', 'CREATE', stream, group, '0', 'ENTRIESREAD', trimmed)
