-- What scripts that look into streams have in common. It stands before each of them.

local function field(flat, name)
  for i = 1, #flat, 2 do
    if flat[i] == name then return flat[i + 1] end
  end
end

-- As texts, since a number of Lua does not hold 64 bits: longer is larger.
local function split(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return { #ms, ms, #seq, seq }
end
local function is_beyond(one, other)
  local a, b = split(one), split(other)
  for i = 1, 4 do
    if a[i] ~= b[i] then return a[i] > b[i] end
  end
  return false
end

-- Bytes of an entry: of its names and values.
local function size_of(entry)
  local size = 0
  for _, part in ipairs(entry[2]) do size = size + #part end
  return size
end
