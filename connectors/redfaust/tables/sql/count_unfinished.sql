-- $1 topics.
SELECT
    (SELECT count(*) FROM redfaust.parked WHERE topic = ANY ($1)) AS parked,
    (
        SELECT count(*)
        FROM redfaust.batches AS batch
        WHERE
            published_at IS NULL
            AND EXISTS (SELECT FROM unnest(batch.entries) AS entry WHERE entry.topic = ANY ($1))
    ) AS unpublished
