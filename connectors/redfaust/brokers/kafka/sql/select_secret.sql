-- What signs sequences of a cluster.
SELECT secret
FROM redfaust.kafka_secrets
WHERE log = $1
