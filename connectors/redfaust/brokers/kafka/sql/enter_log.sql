-- Notes a cluster that is not known yet.
INSERT INTO redfaust.kafka_logs (log)
VALUES ($1)
ON CONFLICT (log) DO NOTHING
