SELECT topic, partition, position
FROM redfaust.shared_floors
WHERE agent = $1 AND log = $2
