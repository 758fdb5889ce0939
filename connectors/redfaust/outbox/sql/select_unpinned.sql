-- $1 topics. Published batches with entries of theirs whose key, or number, says the partition.
SELECT lane, first_number, last_number, entries
FROM redfaust.batches
WHERE
    published_at IS NOT NULL
    AND EXISTS (
        SELECT FROM unnest(entries) AS entry
        WHERE entry.topic = ANY ($1) AND entry.partition IS NULL
    )
