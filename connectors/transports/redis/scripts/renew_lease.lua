-- KEYS[1] the lease; ARGV: member, milliseconds. 1 if it is still the member's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
