INSERT INTO redfaust.dead_letters (
    app, agent, topic, partition, position, key, value, headers,
    error_type, error, traceback, attempts, correlation_id
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
RETURNING id
