-- $1 producer ids. The producers with the same transactional id of other timelines, or of before
-- timelines were part of it, that have batches, the oldest first.
SELECT former.producer_id
FROM redfaust.producers AS producer
JOIN
    redfaust.producers AS former
    ON regexp_replace(former.transactional_id, '[.][^/]*', '')
        = regexp_replace(producer.transactional_id, '[.][^/]*', '')
WHERE
    producer.producer_id = ANY ($1)
    AND former.producer_id <> ALL ($1)
    AND EXISTS (SELECT FROM redfaust.batches AS batch WHERE batch.producer_id = former.producer_id)
ORDER BY former.transactional_id
