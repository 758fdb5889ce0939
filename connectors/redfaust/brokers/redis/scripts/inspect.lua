-- Look at what lies at the keys of a partition.
-- KEYS: the stream, then hashes that stand beside it
-- Returns the keys that are of another type, the names of the groups, and by how many seconds the
-- stream's last ID is ahead of the clock.
local wrong, groups, ahead = {}, {}, 0
for i, key in ipairs(KEYS) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= (i == 1 and 'stream' or 'hash') then wrong[#wrong + 1] = key end
  if i == 1 and found == 'stream' then
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      groups[#groups + 1] = group[2]
    end
    local info = redis.call('XINFO', 'STREAM', key)
    for at = 1, #info, 2 do
      if info[at] == 'last-generated-id' then
        ahead = tonumber(string.match(info[at + 1], '^%d+')) / 1000 - redis.call('TIME')[1]
      end
    end
  end
end
return { wrong, groups, string.format('%.0f', ahead) }
