-- Keep the secrets that sign sequences, so that none gets lost that somebody knows.
-- KEYS[1] the secrets: texts of 64 hexadecimal digits with spaces between
-- ARGV: how many are kept at most, a new one for where there is none at all, those that the caller
-- knows
-- Returns all of them; the first one signs. What somebody else has put there counts as nothing.
local key, most = KEYS[1], tonumber(ARGV[1])
local kept = ''
if redis.call('TYPE', key).ok == 'string' then
  kept = redis.call('GETRANGE', key, 0, 65 * most - 2)
end

local secrets, seen = {}, {}
local function keep(secret)
  if #secret == 64 and not seen[secret] and #secrets < most then
    seen[secret] = true
    secrets[#secrets + 1] = secret
  end
end
for secret in string.gmatch(kept, '%x+') do keep(secret) end
for i = 3, #ARGV do keep(ARGV[i]) end
if #secrets == 0 then keep(ARGV[2]) end

local text = table.concat(secrets, ' ')
if text ~= kept then redis.call('SET', key, text) end
return text
