-- Anybody's SQL may write the outbox. What could never be published is refused where it is written.

-- As Kafka bounds a topic's name; control characters would end up in terminals and logs.
CREATE FUNCTION redfaust.is_topic(name text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT char_length(name) BETWEEN 1 AND 249 AND name !~ '[\u0001-\u001f\u007f-\u009f]'
$$;

CREATE FUNCTION redfaust.is_time(seconds double precision) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- From 1970 to the end of 9999. NaN is greater than all other numbers here.
    SELECT seconds >= 0 AND seconds < 253402300800
$$;

-- Rows that are there already, and could not be published, become dead letters.
WITH refused AS (
    DELETE FROM redfaust.outbox
    WHERE
        NOT redfaust.is_topic(topic)
        OR partition < 0
        OR NOT redfaust.is_time(timestamp)
        OR NOT redfaust.is_time(extract(epoch FROM available_at)::double precision)
        OR octet_length(key) > 1048576
        OR octet_length(value) > 268435456
        OR pg_column_size(headers) > 1048576
    RETURNING topic, partition, key, value, headers
)
INSERT INTO redfaust.dead_letters (
    app, topic, partition, position, key, value, headers, error_type, error, traceback, attempts
)
SELECT
    'outbox',
    topic,
    greatest(partition, 0),
    0,
    key,
    value,
    headers,
    'connectors.errors.BrokerError',
    'this row of the outbox cannot be published: its topic, partition, time or size is out of range',
    '',
    1
FROM refused;

ALTER TABLE redfaust.outbox
    ADD CONSTRAINT outbox_topic CHECK (redfaust.is_topic(topic)),
    ADD CONSTRAINT outbox_partition CHECK (partition >= 0),
    ADD CONSTRAINT outbox_timestamp CHECK (redfaust.is_time(timestamp)),
    ADD CONSTRAINT outbox_available_at CHECK (
        redfaust.is_time(extract(epoch FROM available_at)::double precision)
    ),
    ADD CONSTRAINT outbox_key_size CHECK (octet_length(key) <= 1048576),
    ADD CONSTRAINT outbox_value_size CHECK (octet_length(value) <= 268435456),
    ADD CONSTRAINT outbox_headers_size CHECK (pg_column_size(headers) <= 1048576);

-- The topics that redfaust.publish takes. While there are none it takes any, and a misspelt name makes
-- a topic that nobody reads.
CREATE TABLE redfaust.topics (
    name text PRIMARY KEY CHECK (redfaust.is_topic(name))
);

CREATE OR REPLACE FUNCTION redfaust.publish(
    topic text,
    key text,
    value jsonb,
    headers jsonb DEFAULT '{}',
    available_at timestamptz DEFAULT now()
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    row_id bigint;
BEGIN
    IF NOT coalesce(redfaust.is_topic(publish.topic), false) THEN
        RAISE EXCEPTION
            'redfaust.publish needs a topic of 1 to 249 characters, without control characters'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The first argument is the name of the topic, for instance ''orders''.';
    END IF;
    IF NOT EXISTS (SELECT FROM redfaust.topics AS known WHERE known.name = publish.topic)
        AND EXISTS (SELECT FROM redfaust.topics) THEN
        RAISE EXCEPTION 'redfaust.publish knows no topic %', publish.topic
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It knows ' || (
                      SELECT string_agg(first.name, ', ' ORDER BY first.name)
                      FROM (SELECT known.name FROM redfaust.topics AS known LIMIT 20) AS first
                  ) || '. A new one is added by INSERT INTO redfaust.topics.';
    END IF;
    IF octet_length(publish.key) > 1048576 THEN
        RAISE EXCEPTION 'redfaust.publish needs a key of at most 1048576 bytes, not %',
            octet_length(publish.key)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The second argument names the entity, for instance an order''s id.';
    END IF;
    IF jsonb_typeof(publish.headers) <> 'object' THEN
        RAISE EXCEPTION 'redfaust.publish needs headers that are a JSON object, not %',
            jsonb_typeof(publish.headers)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'For instance ''{"type": "OrderCreated", "version": "1"}''.';
    END IF;
    IF publish.available_at > now()
        AND NOT redfaust.is_time(extract(epoch FROM publish.available_at)::double precision) THEN
        RAISE EXCEPTION 'redfaust.publish needs a time before the year 10000, not %',
            publish.available_at
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'For instance now() + interval ''1 hour''; leave it out to publish at once.';
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
