-- The names of other systems for the same things.
ALTER TABLE redfaust.registers RENAME TO assignments;
ALTER TABLE redfaust.assignments RENAME COLUMN register TO assignment;
ALTER TABLE redfaust.beats RENAME TO heartbeats;
