SELECT lane, topic, partition, mark, position, since, losses
FROM redfaust.kafka_marks
WHERE log = $1 AND lane = ANY ($2::text[])
