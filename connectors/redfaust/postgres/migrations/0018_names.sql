-- The names of other systems for the same things.
ALTER TABLE redfaust.registers RENAME TO assignments;
ALTER TABLE redfaust.assignments RENAME COLUMN register TO assignment;
ALTER TABLE redfaust.beats RENAME TO heartbeats;

ALTER TABLE redfaust.lanes RENAME TO producers;
ALTER TABLE redfaust.producers RENAME COLUMN lane TO producer_id;
ALTER TABLE redfaust.producers RENAME COLUMN producer TO transactional_id;
ALTER TABLE redfaust.producers RENAME COLUMN last_number TO last_sequence;
ALTER TABLE redfaust.batches RENAME COLUMN lane TO producer_id;
ALTER TABLE redfaust.batches RENAME COLUMN first_number TO first_sequence;
ALTER TABLE redfaust.batches RENAME COLUMN last_number TO last_sequence;
ALTER TYPE redfaust.place RENAME ATTRIBUTE mark TO last_sequence;
ALTER TABLE redfaust.kafka_marks RENAME TO kafka_producers;
ALTER TABLE redfaust.kafka_producers RENAME COLUMN lane TO producer_id;
ALTER TABLE redfaust.kafka_producers RENAME COLUMN mark TO last_sequence;
