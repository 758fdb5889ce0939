INSERT INTO redfaust.migrations (namespace, number, name, checksum) VALUES ($1, $2, $3, $4)
