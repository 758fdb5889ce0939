-- $1 application, $2 topics. Whoever has partitions of them cannot commit any more. They belong to no
-- log now: they begin where the broker's group does, and nothing counts as applied.
UPDATE redfaust.positions
SET epoch = epoch + 1,
    log = '',
    position = 0,
    passed = 0,
    ahead = '{}',
    applied = '{}',
    batch = NULL
WHERE app = $1 AND topic = ANY($2::text[])
