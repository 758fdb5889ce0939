-- What the scripts have in common that remove entries. It stands before each of them, behind
-- streams.lua.

local AT_ONCE = 262144 -- bytes that are looked through, since Lua gets them all

-- The ID before which no group needs anything, at most the newest; the groups that stand there; and
-- whether one of them has the entry with this ID in hand.
local function floor_of(stream, newest)
  local floor, holders, is_claimed = newest, {}, false
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local name, at, claimed = field(group, 'name'), field(group, 'last-delivered-id'), false
    if field(group, 'pending') > 0 then
      local oldest = redis.call('XPENDING', stream, name)[2]
      if not is_beyond(oldest, at) then at, claimed = oldest, true end
    end
    if is_beyond(floor, at) then floor, holders, is_claimed = at, {}, false end
    if floor == at then
      holders[#holders + 1] = name
      is_claimed = is_claimed or claimed
    end
  end
  return floor, holders, is_claimed
end

-- The ID before which everything is older than so many milliseconds, and the time.
local function older_than(age)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  return now > age and string.format('%.0f-0', now - age) or '0-0', now
end
