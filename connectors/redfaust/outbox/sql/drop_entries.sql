-- $1 the lane, $2 the last number of the batch, $3 numbers of entries.
UPDATE redfaust.batches
SET entries = ARRAY(
    SELECT entry FROM unnest(entries) AS entry
    WHERE entry.number <> ALL ($3::bigint[])
    ORDER BY entry.number
)
WHERE lane = $1 AND last_number = $2
