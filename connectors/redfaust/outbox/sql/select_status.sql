-- $1 rows of each kind at most that are counted: nobody waits for the count of millions.
WITH at_once AS (
    SELECT created_at AS due_at
    FROM redfaust.outbox
    WHERE available_at IS NULL
    ORDER BY id
    LIMIT $1
),
late AS (
    SELECT available_at AS due_at
    FROM redfaust.outbox
    WHERE available_at <= now()
    ORDER BY available_at
    LIMIT $1
),
scheduled AS (
    SELECT
    FROM redfaust.outbox
    WHERE available_at > now()
    LIMIT $1
),
claimed AS (
    SELECT last_sequence - first_sequence + 1 AS entries, committed_at AS due_at
    FROM redfaust.batches
    WHERE published_at IS NULL
    LIMIT $1
)
SELECT
    (
        (SELECT count(*) FROM at_once)
        + (SELECT count(*) FROM late)
        + (SELECT coalesce(sum(entries), 0) FROM claimed)
    )::bigint AS depth,
    coalesce(
        extract(
            epoch FROM now() - least(
                (SELECT min(due_at) FROM at_once),
                (SELECT min(due_at) FROM late),
                (SELECT min(due_at) FROM claimed)
            )
        ),
        0
    )::float8 AS oldest_age,
    (SELECT count(*) FROM scheduled) AS scheduled,
    coalesce(extract(epoch FROM now() - (SELECT min(due_at) FROM late)), 0)::float8 AS late
