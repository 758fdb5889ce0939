-- Whether a batch has been committed. A commit that was given up by whoever asked for it may still be
-- on its way: it holds these rows, and its end is waited for.
SELECT coalesce(bool_or(batch = $2), false)
FROM (
    SELECT batch
    FROM redfaust.positions
    WHERE app = $1
    ORDER BY topic, partition
    FOR UPDATE
) AS held
