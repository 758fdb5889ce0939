SELECT topic
FROM redfaust.kafka_closed
WHERE log = $1
