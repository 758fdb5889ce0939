-- Look at what lies at the keys of a partition.
-- KEYS: the stream, then hashes that stand beside it
-- Returns the keys that are of another type, and the names of the groups.
local wrong, groups = {}, {}
for i, key in ipairs(KEYS) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= (i == 1 and 'stream' or 'hash') then wrong[#wrong + 1] = key end
  if i == 1 and found == 'stream' then
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      groups[#groups + 1] = group[2]
    end
  end
end
return { wrong, groups }
