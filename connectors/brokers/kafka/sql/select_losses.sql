-- How often a cluster has lost something.
SELECT losses
FROM redfaust.kafka_logs
WHERE log = $1
