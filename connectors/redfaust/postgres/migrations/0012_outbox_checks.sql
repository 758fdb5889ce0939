-- Anybody's SQL may write the outbox. What could never be published is refused where it is written.

-- As Kafka bounds a topic's name; control characters would end up in terminals and logs.
CREATE FUNCTION redfaust.is_topic(name text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT char_length(name) BETWEEN 1 AND 249 AND name !~ '[\u0001-\u001f\u007f-\u009f]'
$$;

CREATE FUNCTION redfaust.is_time(seconds double precision) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- From 1970 to the end of 9999. NaN is greater than all other numbers here.
    SELECT seconds >= 0 AND seconds < 253402300800
$$;

-- An object of texts, or an array of [name, base64]. JSON has numbers and depths that no reader takes.
CREATE FUNCTION redfaust.are_headers(headers jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT
        CASE jsonb_typeof(headers)
            WHEN 'object' THEN NOT jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")')
            WHEN 'array' THEN NOT jsonb_path_exists(
                headers,
                'strict $[*] ? (@.type() != "array" || @.size() != 2
                    || @[0].type() != "string" || @[1].type() != "string")'
            )
            ELSE false
        END
$$;

CREATE FUNCTION redfaust.header_of(name text, content text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_array(
        name, translate(encode(convert_to(coalesce(content, ''), 'UTF8'), 'base64'), E'\n', '')
    )
$$;

-- What can be read of headers that are no texts, as texts.
CREATE FUNCTION redfaust.readable(headers jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT
        CASE
            WHEN redfaust.are_headers(headers) THEN headers
            WHEN jsonb_typeof(headers) = 'object' THEN (
                SELECT jsonb_agg(redfaust.header_of(header.key, header.value))
                FROM jsonb_each_text(headers) AS header
            )
            ELSE (
                SELECT jsonb_agg(
                    CASE
                        WHEN redfaust.are_headers(jsonb_build_array(header.pair)) THEN header.pair
                        ELSE redfaust.header_of('', header.pair #>> '{}')
                    END
                    ORDER BY header.place
                )
                FROM jsonb_array_elements(headers) WITH ORDINALITY AS header (pair, place)
            )
        END
$$;

UPDATE redfaust.outbox SET headers = redfaust.readable(headers)
WHERE NOT redfaust.are_headers(headers);

-- Rows of that kind which a relay has claimed, and could not read.
UPDATE redfaust.batches
SET entries = ARRAY(
    SELECT
        ROW(
            entry.number,
            entry.topic,
            entry.partition,
            entry.key,
            entry.value,
            redfaust.readable(entry.headers),
            entry.timestamp
        )::redfaust.entry
    FROM unnest(entries) AS entry
    ORDER BY entry.number
)
WHERE EXISTS (
    SELECT FROM unnest(entries) AS entry WHERE NOT redfaust.are_headers(entry.headers)
);

UPDATE redfaust.outbox SET created_at = now() WHERE NOT isfinite(created_at);

-- Rows that could not be published become dead letters, of an application that reads their topic.
WITH judged AS (
    SELECT
        id,
        CASE
            WHEN NOT redfaust.is_topic(topic)
                THEN 'its topic has not 1 to 249 characters without control characters'
            WHEN partition < 0
                THEN format('its partition is %s', partition)
            WHEN NOT redfaust.is_time(timestamp)
                THEN format('its timestamp is %s, not from 1970 to 9999', timestamp)
            WHEN NOT redfaust.is_time(extract(epoch FROM available_at)::double precision)
                THEN format('its available_at is %s, not from 1970 to 9999', available_at)
            WHEN octet_length(key) > 1048576
                THEN format('its key has %s bytes, more than 1048576', octet_length(key))
            WHEN octet_length(value) > 268435456
                THEN format('its value has %s bytes, more than 268435456', octet_length(value))
            WHEN octet_length(headers::text) > 1048576
                THEN format('its headers have %s bytes, more than 1048576', octet_length(headers::text))
        END AS reason
    FROM redfaust.outbox
),
refused AS (
    DELETE FROM redfaust.outbox AS row
    USING judged
    WHERE row.id = judged.id AND judged.reason IS NOT NULL
    RETURNING row.topic, row.partition, row.key, row.value, row.headers, judged.reason
)
INSERT INTO redfaust.dead_letters (
    app, topic, partition, position, key, value, headers, error_type, error, traceback, attempts
)
SELECT
    coalesce(
        (SELECT min(reader.app) FROM redfaust.positions AS reader WHERE reader.topic = refused.topic),
        (SELECT min(reader.app) FROM redfaust.positions AS reader),
        'outbox'
    ),
    refused.topic,
    greatest(refused.partition, 0),
    0,
    refused.key,
    refused.value,
    CASE jsonb_typeof(refused.headers)
        WHEN 'object' THEN (
            SELECT coalesce(jsonb_agg(redfaust.header_of(header.key, header.value)), '[]')
            FROM jsonb_each_text(refused.headers) AS header
        )
        ELSE refused.headers
    END,
    'redfaust.errors.BrokerError',
    'this row of the outbox cannot be published: ' || refused.reason,
    '',
    1
FROM refused;

DROP FUNCTION redfaust.readable;
DROP FUNCTION redfaust.header_of;

ALTER TABLE redfaust.outbox
    ADD CONSTRAINT outbox_topic CHECK (redfaust.is_topic(topic)),
    ADD CONSTRAINT outbox_partition CHECK (partition >= 0),
    ADD CONSTRAINT outbox_timestamp CHECK (redfaust.is_time(timestamp)),
    ADD CONSTRAINT outbox_available_at CHECK (
        redfaust.is_time(extract(epoch FROM available_at)::double precision)
    ),
    ADD CONSTRAINT outbox_created_at CHECK (isfinite(created_at)),
    ADD CONSTRAINT outbox_key_size CHECK (octet_length(key) <= 1048576),
    ADD CONSTRAINT outbox_value_size CHECK (octet_length(value) <= 268435456),
    ADD CONSTRAINT outbox_headers CHECK (redfaust.are_headers(headers)),
    ADD CONSTRAINT outbox_headers_size CHECK (octet_length(headers::text) <= 1048576);

-- Of the broker, with its identity, when the batch was published. With another one entries may have
-- been lost, and topics with them; a topic that is missing under the same one was deleted.
ALTER TABLE redfaust.batches ADD COLUMN incarnation text;

-- The topics that redfaust.publish takes. While there are none it takes any, and a misspelt name makes
-- a topic that nobody reads.
CREATE TABLE redfaust.topics (
    name text PRIMARY KEY CHECK (redfaust.is_topic(name))
);

-- Raises unless a topic may be published to.
CREATE FUNCTION redfaust.check_topic(topic text) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    -- Those that share the most pairs of letters with it come first.
    nearest text[];
BEGIN
    IF NOT coalesce(redfaust.is_topic(check_topic.topic), false) THEN
        RAISE EXCEPTION
            'redfaust.publish needs a topic of 1 to 249 characters, without control characters'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The first argument is the name of the topic, for instance ''orders''.';
    END IF;
    IF EXISTS (SELECT FROM redfaust.topics AS known WHERE known.name = check_topic.topic)
        OR NOT EXISTS (SELECT FROM redfaust.topics) THEN
        RETURN;
    END IF;
    SELECT array_agg(name) INTO nearest
    FROM (
        SELECT known.name
        FROM redfaust.topics AS known
        ORDER BY
            (
                SELECT count(*)
                FROM generate_series(1, char_length(known.name) - 1) AS place
                WHERE strpos(check_topic.topic, substr(known.name, place, 2)) > 0
            ) DESC,
            known.name
        LIMIT 20
    ) AS known;
    RAISE EXCEPTION 'redfaust.publish knows no topic %', check_topic.topic
        USING ERRCODE = 'invalid_parameter_value',
              HINT = format(
                  'Did you mean %s? It knows %s. A new one is added by INSERT INTO redfaust.topics.',
                  nearest[1], array_to_string(nearest, ', ')
              );
END
$$;

CREATE OR REPLACE FUNCTION redfaust.publish(
    topic text,
    key text,
    value jsonb,
    headers jsonb DEFAULT '{}',
    available_at timestamptz DEFAULT now()
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    row_id bigint;
    content bytea := convert_to(publish.value::text, 'UTF8');
    texts jsonb;
BEGIN
    PERFORM redfaust.check_topic(publish.topic);
    IF octet_length(publish.key) > 1048576 THEN
        RAISE EXCEPTION 'redfaust.publish needs a key of at most 1048576 bytes, not %',
            octet_length(publish.key)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The second argument names the entity, for instance an order''s id.';
    END IF;
    IF octet_length(content) > 268435456 THEN
        RAISE EXCEPTION 'redfaust.publish needs a value of at most 268435456 bytes, not %',
            octet_length(content)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Store it elsewhere, and publish where it is.';
    END IF;
    IF jsonb_typeof(publish.headers) <> 'object' THEN
        RAISE EXCEPTION 'redfaust.publish needs headers that are a JSON object, not %',
            jsonb_typeof(publish.headers)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'For instance ''{"type": "OrderCreated", "version": "1"}''.';
    END IF;
    -- Headers are texts: a number becomes its digits, a null is left out.
    SELECT coalesce(jsonb_object_agg(header.key, header.value), '{}') INTO texts
    FROM jsonb_each_text(publish.headers) AS header
    WHERE header.value IS NOT NULL;
    IF octet_length(texts::text) > 1048576 THEN
        RAISE EXCEPTION 'redfaust.publish needs headers of at most 1048576 bytes, not %',
            octet_length(texts::text)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Put what is long into the value, the third argument.';
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
        content,
        texts,
        CASE WHEN publish.available_at > now() THEN publish.available_at END
    )
    RETURNING id INTO row_id;
    RETURN row_id;
END
$$;
