CREATE TABLE IF NOT EXISTS {table} (
    key {key_type} NOT NULL,
    value {value_type} NOT NULL,
    partition int NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT {primary_key} PRIMARY KEY (key)
)
