-- $1 application, $2 topic, $3 agent, $4 class of error, $5 state, $6 only numbers below this one,
-- $7 letters at most, $8 bytes or characters of each long column at most. Values are not read whole.
SELECT
    id,
    app,
    agent,
    topic,
    partition,
    position,
    substring(key FROM 1 FOR $8) AS key,
    substring(value FROM 1 FOR $8) AS value,
    octet_length(value) AS size,
    CASE
        WHEN pg_column_size(headers) <= 4 * $8 AND octet_length(headers::text) <= 4 * $8 THEN headers
        ELSE '[]'
    END AS headers,
    left(error_type, $8) AS error_type,
    left(error, $8) AS error,
    attempts,
    left(correlation_id, $8) AS correlation_id,
    state,
    created_at,
    resolved_at
FROM redfaust.dead_letters
WHERE ($1::text IS NULL OR app = $1)
    AND ($2::text IS NULL OR topic = $2)
    AND ($3::text IS NULL OR agent = $3)
    AND ($4::text IS NULL OR error_type = $4)
    AND ($5::text IS NULL OR state = $5)
    AND ($6::bigint IS NULL OR id < $6)
ORDER BY id DESC
LIMIT $7
