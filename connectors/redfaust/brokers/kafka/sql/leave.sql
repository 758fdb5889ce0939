DELETE FROM redfaust.kafka_groups
WHERE log = $1 AND name = $2 AND topic = ANY ($3::text[])
