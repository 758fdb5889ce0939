-- The bounds of a stream, without its entries.
-- KEYS[1] the stream
-- Returns the oldest ID (empty: it holds none) and the last one that was generated; nothing if there
-- is no stream.
local stream = KEYS[1]

if redis.call('EXISTS', stream) == 0 then return {} end
local info = redis.call('XINFO', 'STREAM', stream)
local first = field(info, 'first-entry')
return { first and first[1] or '', field(info, 'last-generated-id') }
