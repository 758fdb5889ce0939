-- Who asks keeps house, unless somebody else does.
-- KEYS[1] who does; ARGV: who asks, milliseconds until it is anybody's again. 1 if it is who asks.
local keeper = redis.call('GET', KEYS[1])
if keeper and keeper ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
