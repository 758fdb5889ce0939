-- $1 the number, $2 bytes or characters of each long column at most.
SELECT
    id,
    app,
    agent,
    topic,
    partition,
    position,
    substring(key FROM 1 FOR $2) AS key,
    substring(value FROM 1 FOR $2) AS value,
    octet_length(value) AS size,
    CASE
        WHEN pg_column_size(headers) <= 4 * $2 AND octet_length(headers::text) <= 4 * $2 THEN headers
        ELSE '[]'
    END AS headers,
    left(error_type, $2) AS error_type,
    left(error, $2) AS error,
    attempts,
    left(correlation_id, $2) AS correlation_id,
    state,
    created_at,
    resolved_at
FROM redfaust.dead_letters
WHERE id = $1
