-- Write a group's assignment and forget members, unless something has changed meanwhile.
-- KEYS: the assignment, the heartbeats; ARGV: the version that was read, the assignment, versions to keep,
-- then each member to forget with the number of its last heartbeat, 0 for none. 1 if it was done.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if (last and last[1] or '') ~= ARGV[1] then return 0 end
for i = 4, #ARGV, 2 do
  local heartbeat = redis.call('HGET', KEYS[2], ARGV[i])
  if (heartbeat and string.match(heartbeat, '^%d+') or '0') ~= ARGV[i + 1] then return 0 end
end
for i = 4, #ARGV, 2 do
  redis.call('HDEL', KEYS[2], ARGV[i])
end
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'assignment', ARGV[2])
return 1
