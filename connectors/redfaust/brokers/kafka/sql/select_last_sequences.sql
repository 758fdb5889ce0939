SELECT producer_id, topic, partition, last_sequence, position, since, losses
FROM redfaust.kafka_producers
WHERE log = $1 AND producer_id = ANY ($2::text[])
