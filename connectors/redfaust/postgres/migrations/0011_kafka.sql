-- What a broker that speaks Kafka's protocol has no place for is kept here, beside the positions
-- that rule. A log is a Kafka cluster, by its id.

-- How often somebody has found that a cluster has lost what it had confirmed.
CREATE TABLE redfaust.kafka_logs (
    log text PRIMARY KEY,
    losses bigint NOT NULL DEFAULT 0
);

-- Topics that take nothing while they get more partitions.
CREATE TABLE redfaust.kafka_closed (
    log text NOT NULL,
    topic text NOT NULL,
    PRIMARY KEY (log, topic)
);

CREATE TABLE redfaust.kafka_groups (
    log text NOT NULL,
    name text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (log, name, topic, partition)
);
CREATE INDEX kafka_groups_topic ON redfaust.kafka_groups (log, topic, partition);

-- How far a lane has come in a partition. Entries that it has sent and that the mark does not count
-- yet lie at "since" or behind it; where that is null there are none.
CREATE TABLE redfaust.kafka_marks (
    log text NOT NULL,
    lane text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    mark bigint NOT NULL DEFAULT 0,
    position bigint NOT NULL DEFAULT 0,
    since bigint,
    losses bigint NOT NULL,
    PRIMARY KEY (log, lane, topic, partition)
);

-- Who is a member of a group, and who owns what.
CREATE TABLE redfaust.registers (
    name text PRIMARY KEY,
    version uuid NOT NULL,
    register jsonb NOT NULL
);

-- Twice a second from each worker, and of no use to anybody seconds later.
CREATE UNLOGGED TABLE redfaust.beats (
    name text NOT NULL,
    member text NOT NULL,
    number bigint NOT NULL,
    said jsonb NOT NULL,
    heard_at timestamptz NOT NULL,
    PRIMARY KEY (name, member)
);
