INSERT INTO redfaust.lanes AS lane (lane, relay_of)
VALUES (
    'relay-' || left(replace(gen_random_uuid()::text, '-', ''), 16),
    (
        SELECT control.system_identifier || '/' || database.oid
        FROM pg_control_system() AS control, pg_database AS database
        WHERE database.datname = current_database()
    )
)
-- Changes nothing, but returns the lane that is there.
ON CONFLICT (relay_of) DO UPDATE SET relay_of = excluded.relay_of
RETURNING lane.lane
