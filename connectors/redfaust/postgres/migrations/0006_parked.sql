-- Events that wait for another attempt, and those of the same keys behind them. Their positions are
-- passed: other keys go on.
CREATE TABLE redfaust.parked (
    -- Of a key, the order in which they are to be processed.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app text NOT NULL,
    agent text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    -- The entry's offset.
    position numeric(39) NOT NULL,
    -- Seconds since the epoch.
    timestamp double precision NOT NULL,
    key bytea,
    value bytea,
    -- An array of [name, base64].
    headers jsonb NOT NULL,
    -- 0: has not failed itself, but waits behind one that has.
    attempts int NOT NULL,
    due_at timestamptz NOT NULL,
    error_type text,
    error text,
    parked_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX parked_lines ON redfaust.parked (app, topic, partition, agent, key, id);
