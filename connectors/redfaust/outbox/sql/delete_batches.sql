-- $1 lanes and $2 last numbers. Does not wait for the disk: a crash of the server brings back
-- batches that are deleted later.
DELETE FROM redfaust.batches
USING unnest($1::text[], $2::bigint[]) AS gone (lane, last_number)
WHERE
    batches.lane = gone.lane
    AND batches.last_number = gone.last_number
    AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
