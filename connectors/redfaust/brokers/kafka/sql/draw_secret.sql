-- Draws what signs sequences of a cluster, unless somebody has.
INSERT INTO redfaust.kafka_secrets (log)
VALUES ($1)
ON CONFLICT (log) DO NOTHING
