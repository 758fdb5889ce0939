SELECT
    (SELECT last_number FROM redfaust.lanes WHERE lane = $1) AS last_number,
    (
        SELECT extract(epoch FROM min(available_at) - now())::float8
        FROM redfaust.outbox
        WHERE available_at IS NOT NULL
    ) AS seconds_until_due
