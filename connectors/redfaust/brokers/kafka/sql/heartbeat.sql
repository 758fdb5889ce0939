INSERT INTO redfaust.heartbeats (name, member, number, said, heard_at)
VALUES ($1, $2, $3, $4, clock_timestamp())
ON CONFLICT (name, member) DO UPDATE
SET number = excluded.number, said = excluded.said, heard_at = excluded.heard_at
