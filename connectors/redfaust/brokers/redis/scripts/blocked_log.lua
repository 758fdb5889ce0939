-- Why nothing can be appended to a log as it is. It stands before the scripts that ask.

local LAST_ID = '18446744073709551615-18446744073709551615'

local function why_ended(stream)
  return stream .. ' has an entry with the highest possible ID, behind which nothing can be '
    .. 'appended: delete that stream'
end

-- Returns the reason, or nothing.
local function why_blocked(stream, producers)
  for key, wanted in pairs({[stream] = 'stream', [producers] = 'hash'}) do
    local found = redis.call('TYPE', key).ok
    if found ~= wanted and found ~= 'none' then
      return key .. ' is a ' .. found .. ', not a ' .. wanted .. ': rename or delete it'
    end
  end
end
