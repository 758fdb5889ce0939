-- Strike consumers off a shared group: those that were silent for long, and one that leaves. Whoever
-- has claimed something stays, since its claims would be lost with it.
-- KEYS[1] the stream; ARGV: group, milliseconds of that silence, who leaves (or empty)
local stream, group, silence, leaving = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]

local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then return 0 end
local forgotten = 0
for _, flat in ipairs(consumers) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  if consumer.pending == 0 and (consumer.name == leaving or consumer.idle > silence) then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    forgotten = forgotten + 1
  end
end
return forgotten
