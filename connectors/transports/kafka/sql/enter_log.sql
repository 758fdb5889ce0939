-- How often a cluster has lost something; one that is not known yet is noted.
INSERT INTO redfaust.kafka_logs AS known (log)
VALUES ($1)
ON CONFLICT (log) DO UPDATE SET losses = known.losses
RETURNING losses
