-- Does not wait for the disk: a row that a crash of the server brings back is claimed, and
-- appending it again is harmless.
DELETE FROM redfaust.outbox
WHERE id = ANY ($1::bigint[]) AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
