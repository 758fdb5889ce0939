-- Give a group a position if it has none, or if its position lies behind the end of the stream: then
-- this is another stream than before, or it was emptied and set back.
-- KEYS[1] the stream; ARGV: group, 'start' or 'end', and where to start at the earliest: an ID up to
-- which the group is known to have finished this stream, '0-0' if nothing is known
local stream, group, where, finished = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

if redis.call('EXISTS', stream) == 0 then
  return redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM', 'ENTRIESREAD', 0)
end
local info = redis.call('XINFO', 'STREAM', stream)
local last = field(info, 'last-generated-id')
-- What was trimmed before the group came does not count as its lag.
local trimmed = field(info, 'entries-added') - field(info, 'length')

for _, g in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if field(g, 'name') == group then
    if not is_beyond(field(g, 'last-delivered-id'), last) then return 'OK' end
    return redis.call('XGROUP', 'SETID', stream, group, '0', 'ENTRIESREAD', trimmed)
  end
end
if where == 'end' then
  return redis.call('XGROUP', 'CREATE', stream, group, '$')
end
if is_beyond(finished, '0-0') and not is_beyond(finished, last) then
  return redis.call('XGROUP', 'CREATE', stream, group, finished)
end
return redis.call('XGROUP', 'CREATE', stream, group, '0', 'ENTRIESREAD', trimmed)
