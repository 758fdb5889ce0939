-- The schema redfaust itself exists: the table that records this migration is in it.

CREATE TABLE redfaust.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL CHECK (topic <> ''),
    key bytea,
    value bytea,
    -- An object of texts, or, where they are arbitrary bytes, an array of [name, base64].
    headers jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) IN ('object', 'array')),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: at once.
    available_at timestamptz
);

-- Rows to publish at once and rows that wait are read in different orders, and a crowd of
-- waiting rows must not lie in the way of the others.
CREATE INDEX outbox_ready ON redfaust.outbox (id) WHERE available_at IS NULL;
CREATE INDEX outbox_scheduled ON redfaust.outbox (available_at, id) WHERE available_at IS NOT NULL;

CREATE FUNCTION redfaust.announce_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('redfaust_outbox', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER announce AFTER INSERT ON redfaust.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION redfaust.announce_outbox();

CREATE FUNCTION redfaust.publish(
    topic text,
    key text,
    value jsonb,
    headers jsonb DEFAULT '{}',
    available_at timestamptz DEFAULT now()
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    row_id bigint;
BEGIN
    IF coalesce(publish.topic, '') = '' THEN
        RAISE EXCEPTION 'redfaust.publish needs a topic'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The first argument is the name of the topic, for instance ''orders''.';
    END IF;
    IF jsonb_typeof(publish.headers) <> 'object' THEN
        RAISE EXCEPTION 'redfaust.publish needs headers that are a JSON object, not %',
            jsonb_typeof(publish.headers)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'For instance ''{"type": "OrderCreated", "version": "1"}''.';
    END IF;
    INSERT INTO redfaust.outbox (topic, key, value, headers, available_at)
    VALUES (
        publish.topic,
        convert_to(publish.key, 'UTF8'),
        convert_to(publish.value::text, 'UTF8'),
        -- Headers are texts: a number becomes its digits, a null is left out.
        coalesce(
            (
                SELECT jsonb_object_agg(header.key, header.value)
                FROM jsonb_each_text(publish.headers) AS header
                WHERE header.value IS NOT NULL
            ),
            '{}'
        ),
        CASE WHEN publish.available_at > now() THEN publish.available_at END
    )
    RETURNING id INTO row_id;
    RETURN row_id;
END
$$;

CREATE TABLE redfaust.positions (
    app text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    -- The broker's identity: in another one's logs the position means nothing.
    log text NOT NULL,
    position numeric(39) NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, topic, partition)
);

CREATE TABLE redfaust.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app text NOT NULL,
    agent text,
    topic text NOT NULL,
    partition int NOT NULL,
    -- The entry's offset.
    position numeric(39) NOT NULL,
    key bytea,
    value bytea,
    -- An array of [name, base64].
    headers jsonb NOT NULL,
    error_type text NOT NULL,
    error text NOT NULL,
    traceback text NOT NULL,
    attempts int NOT NULL,
    correlation_id text,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'replayed', 'discarded')),
    created_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    CHECK ((state = 'waiting') = (resolved_at IS NULL))
);

CREATE INDEX dead_letters_waiting ON redfaust.dead_letters (app, topic) WHERE state = 'waiting';
