-- What signs the sequences of entries in a Kafka cluster, so that nobody else can write one. Workers
-- and relays alone may read it.
CREATE TABLE redfaust.kafka_secrets (
    log text PRIMARY KEY,
    secret bytea NOT NULL
        DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
);
