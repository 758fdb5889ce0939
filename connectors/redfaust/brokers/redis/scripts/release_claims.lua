-- Let others take over what this consumer has claimed, as if it had never had it.
-- KEYS[1] the stream; ARGV: group, consumer, milliseconds after which a claim has ended, IDs
local stream, group, consumer, ended = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

for i = 4, #ARGV do
  local mine = redis.pcall('XPENDING', stream, group, ARGV[i], ARGV[i], 1, consumer)
  if mine.err then
    if string.find(mine.err, 'NOGROUP') then return 'OK' end
    return mine
  end
  if mine[1] then
    redis.call('XCLAIM', stream, group, consumer, 0, ARGV[i],
      'IDLE', ended, 'RETRYCOUNT', mine[1][4] - 1, 'JUSTID')
  end
end
return 'OK'
