-- What agents with shared delivery have done of the events that they got, since nothing says so in
-- positions.
CREATE TABLE redfaust.inbox (
    -- Application and agent, with a slash between them.
    agent text NOT NULL,
    -- The lane that sent it and its number there, or else where it lies.
    event text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    -- The entry's offset.
    position numeric(39) NOT NULL,
    -- How often it has failed.
    attempts int NOT NULL DEFAULT 0,
    -- When it is to be tried again; NULL: it is finished.
    due_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, event)
);

CREATE INDEX inbox_changed ON redfaust.inbox (agent, changed_at);

-- As in redfaust.entry. What such agents send lies here, since they own no lane.
ALTER TABLE redfaust.outbox ADD COLUMN partition int, ADD COLUMN timestamp double precision;
