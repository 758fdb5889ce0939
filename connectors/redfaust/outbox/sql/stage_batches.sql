-- $1 lanes, $2 the last number of each as the caller knows it, $3 how many entries each has,
-- $4 all entries, lane by lane. Stores nothing for a lane that has another last number by now.
WITH given AS (
    SELECT
        lane,
        before,
        before + size AS last_number,
        (sum(size) OVER (ORDER BY place) - size)::int AS start,
        size
    FROM unnest($1::text[], $2::bigint[], $3::int[])
        WITH ORDINALITY AS given (lane, before, size, place)
),
raised AS (
    UPDATE redfaust.lanes AS lane
    SET last_number = given.last_number
    FROM given
    WHERE lane.lane = given.lane AND lane.last_number = given.before
    RETURNING lane.lane
)
INSERT INTO redfaust.batches (lane, first_number, last_number, entries)
SELECT lane, before + 1, last_number, ($4::redfaust.entry[])[start + 1:start + size]
FROM given
JOIN raised USING (lane)
RETURNING lane
