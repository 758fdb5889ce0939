-- Counts a loss, unless it was counted since it was last looked.
UPDATE redfaust.kafka_logs
SET losses = losses + 1
WHERE log = $1 AND losses = $2
