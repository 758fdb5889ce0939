-- $1 producer ids, $2 the highest last sequence of each, $3 numbers to leave out above.
UPDATE redfaust.producers AS producer
SET last_sequence = greatest(producer.last_sequence, marked.last_sequence) + $3
FROM unnest($1::text[], $2::bigint[]) AS marked (producer_id, last_sequence)
WHERE producer.producer_id = marked.producer_id
RETURNING producer.producer_id, producer.last_sequence
