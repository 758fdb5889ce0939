-- $1 producers, $2 the last number of each as the caller knows it, $3 how many entries each has,
-- $4 all entries, producer by producer. Stores nothing for a producer that has another last number by now.
WITH given AS (
    SELECT
        producer_id,
        before,
        before + size AS last_sequence,
        (sum(size) OVER (ORDER BY place) - size)::int AS start,
        size
    FROM unnest($1::text[], $2::bigint[], $3::int[])
        WITH ORDINALITY AS given (producer_id, before, size, place)
),
raised AS (
    UPDATE redfaust.producers AS producer
    SET last_sequence = given.last_sequence
    FROM given
    WHERE producer.producer_id = given.producer_id AND producer.last_sequence = given.before
    RETURNING producer.producer_id
)
INSERT INTO redfaust.batches (producer_id, first_sequence, last_sequence, entries)
SELECT producer_id, before + 1, last_sequence, ($4::redfaust.entry[])[start + 1:start + size]
FROM given
JOIN raised USING (producer_id)
RETURNING producer_id
