-- What a producer sends is stored in batches of its lane, numbered, before it is published.

CREATE TYPE redfaust.entry AS (
    number bigint,
    topic text,
    -- NULL: the key says it, or without a key the number.
    partition int,
    key bytea,
    value bytea,
    -- As in redfaust.outbox.
    headers jsonb,
    -- Seconds since the epoch; NULL: the time at which it is appended.
    timestamp double precision
);

-- How far a lane has come in one log.
CREATE TYPE redfaust.place AS (
    topic text,
    partition int,
    -- The lane's highest number there.
    mark bigint,
    -- Behind its last entry there, or further.
    position numeric(39)
);

CREATE TABLE redfaust.batches (
    lane text NOT NULL,
    first_number bigint NOT NULL,
    last_number bigint NOT NULL,
    -- In the order of their numbers, which lie between these two; some may be missing.
    entries redfaust.entry[] NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: perhaps not on all its streams yet.
    published_at timestamptz,
    -- Of the logs on which it was published.
    places redfaust.place[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (lane, last_number),
    CHECK (first_number <= last_number)
);

-- Written once and read hardly ever: compressing costs more than the space.
ALTER TABLE redfaust.batches ALTER COLUMN entries SET STORAGE EXTERNAL;

CREATE INDEX batches_unpublished ON redfaust.batches (lane, last_number)
    WHERE published_at IS NULL;

-- Not the relay alone is a producer now.
ALTER TABLE redfaust.lanes RENAME COLUMN relay_of TO producer;
ALTER TABLE redfaust.lanes RENAME CONSTRAINT lanes_relay_of_key TO lanes_producer_key;
UPDATE redfaust.lanes SET producer = producer || '/relay';

-- A relay that claims while this runs would claim into columns that go.
LOCK TABLE redfaust.outbox IN ACCESS EXCLUSIVE MODE;

WITH claimed AS (
    DELETE FROM redfaust.outbox
    WHERE lane IS NOT NULL
    RETURNING lane, number, topic, key, value, headers
)
INSERT INTO redfaust.batches (lane, first_number, last_number, entries)
SELECT
    lane,
    min(number),
    max(number),
    array_agg(
        ROW(number, topic, NULL, key, value, headers, NULL)::redfaust.entry ORDER BY number
    )
FROM claimed
GROUP BY lane;

DROP INDEX redfaust.outbox_ready;
DROP INDEX redfaust.outbox_scheduled;
ALTER TABLE redfaust.outbox DROP COLUMN lane, DROP COLUMN number;
CREATE INDEX outbox_ready ON redfaust.outbox (id) WHERE available_at IS NULL;
CREATE INDEX outbox_scheduled ON redfaust.outbox (available_at, id) WHERE available_at IS NOT NULL;
