-- Below these positions agents with shared delivery have finished everything. The inbox forgets what
-- lies there; a group that was destroyed at the broker begins here again.
CREATE TABLE redfaust.shared_floors (
    -- As in redfaust.inbox.
    agent text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    -- The broker's identity.
    log text NOT NULL,
    position numeric(39) NOT NULL,
    PRIMARY KEY (agent, topic, partition)
);
