-- A lane is an ordered producer: it numbers what it sends, and each stream remembers its number.
CREATE TABLE redfaust.lanes (
    lane text PRIMARY KEY,
    last_number bigint NOT NULL DEFAULT 0,
    -- The database whose relay sends on it. A copy of the tables in another database does not
    -- find itself here, and draws a lane of its own.
    relay_of text UNIQUE
);

ALTER TABLE redfaust.outbox
    -- NULL until a relay claims the row.
    ADD COLUMN lane text,
    ADD COLUMN number bigint,
    ADD CHECK ((lane IS NULL) = (number IS NULL));

CREATE UNIQUE INDEX outbox_claimed ON redfaust.outbox (lane, number) WHERE lane IS NOT NULL;

DROP INDEX redfaust.outbox_ready;
DROP INDEX redfaust.outbox_scheduled;
CREATE INDEX outbox_ready ON redfaust.outbox (id) WHERE lane IS NULL AND available_at IS NULL;
CREATE INDEX outbox_scheduled ON redfaust.outbox (available_at, id)
    WHERE lane IS NULL AND available_at IS NOT NULL;
