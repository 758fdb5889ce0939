DELETE FROM redfaust.kafka_closed
WHERE log = $1 AND topic = ANY ($2::text[])
