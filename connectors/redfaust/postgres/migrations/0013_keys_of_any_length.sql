-- Keys are written by anybody, and an entry of an index holds no more than 2,704 bytes.
DROP INDEX redfaust.parked_lines;
CREATE INDEX parked_lines
    ON redfaust.parked (app, topic, partition, agent, sha256(key), id);
