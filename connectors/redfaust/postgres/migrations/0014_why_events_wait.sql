-- Why an event waits for another attempt, and since when: as in redfaust.parked.
ALTER TABLE redfaust.inbox
    ADD COLUMN error_type text,
    ADD COLUMN error text,
    ADD COLUMN failed_at timestamptz;
