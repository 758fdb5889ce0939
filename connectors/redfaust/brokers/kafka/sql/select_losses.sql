-- How often a cluster has lost something; 0 of one that is not known yet.
SELECT coalesce(max(losses), 0)
FROM redfaust.kafka_logs
WHERE log = $1
