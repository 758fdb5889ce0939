-- Taking a partition raises its epoch. A commit of whoever had it before does not find its own epoch
-- any more, and is refused.
ALTER TABLE redfaust.positions ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
