INSERT INTO redfaust.kafka_closed (log, topic)
SELECT $1, topic
FROM unnest($2::text[]) AS topic
ON CONFLICT (log, topic) DO NOTHING
