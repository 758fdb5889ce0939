SELECT
    (SELECT last_sequence FROM redfaust.producers WHERE producer_id = $1) AS last_sequence,
    (
        SELECT extract(epoch FROM min(available_at) - now())::float8
        FROM redfaust.outbox
        WHERE available_at IS NOT NULL
    ) AS seconds_until_due
