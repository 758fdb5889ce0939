-- Whether this role may sign sequences.
SELECT has_table_privilege('redfaust.kafka_secrets', 'INSERT')
