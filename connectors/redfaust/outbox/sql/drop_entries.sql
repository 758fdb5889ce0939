-- $1 the producer, $2 the last number of the batch, $3 numbers of entries.
UPDATE redfaust.batches
SET entries = ARRAY(
    SELECT entry FROM unnest(entries) AS entry
    WHERE entry.number <> ALL ($3::bigint[])
    ORDER BY entry.number
)
WHERE producer_id = $1 AND last_sequence = $2
