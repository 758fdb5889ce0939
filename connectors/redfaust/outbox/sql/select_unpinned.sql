-- $1 topics. Published batches with entries of theirs whose key, or number, says the partition.
SELECT producer_id, first_sequence, last_sequence, entries
FROM redfaust.batches
WHERE
    published_at IS NOT NULL
    AND EXISTS (
        SELECT FROM unnest(entries) AS entry
        WHERE entry.topic = ANY ($1) AND entry.partition IS NULL
    )
