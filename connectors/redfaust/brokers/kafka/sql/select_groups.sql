SELECT DISTINCT topic, name
FROM redfaust.kafka_groups
WHERE log = $1 AND topic = ANY ($2::text[])
