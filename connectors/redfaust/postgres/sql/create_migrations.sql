CREATE TABLE redfaust.migrations (
    namespace text NOT NULL,
    number int NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, number)
)
