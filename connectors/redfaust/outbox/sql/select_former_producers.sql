-- $1 producers. Those that their transactional_ids had on other timelines, or before producers knew of them, and that
-- have batches, beginning with the oldest.
SELECT former.producer_id
FROM redfaust.producers AS producer_id
JOIN
    redfaust.producers AS former
    ON regexp_replace(former.transactional_id, '[.][^/]*', '') = regexp_replace(producer_id.transactional_id, '[.][^/]*', '')
WHERE
    producer_id.producer_id = ANY ($1)
    AND former.producer_id <> ALL ($1)
    AND EXISTS (SELECT FROM redfaust.batches AS batch WHERE batch.producer_id = former.producer_id)
ORDER BY former.transactional_id
