-- Gives the caller the cleaner lease, unless another worker holds it.
-- KEYS[1] who does; ARGV: the caller, milliseconds until it is anybody's again. Returns 1 if the
-- caller does. What stands there for longer than that, or is no name, was put there by a stranger.
local keeper, left = redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
local is_kept = type(keeper) == 'string' and left >= 0 and left <= tonumber(ARGV[2])
if is_kept and keeper ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
