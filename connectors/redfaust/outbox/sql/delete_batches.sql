-- $1 producers and $2 last numbers. Does not wait for the disk: a crash of the server brings back
-- batches that are deleted later.
DELETE FROM redfaust.batches
USING unnest($1::text[], $2::bigint[]) AS gone (producer_id, last_sequence)
WHERE
    batches.producer_id = gone.producer_id
    AND batches.last_sequence = gone.last_sequence
    AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
