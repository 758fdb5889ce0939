CREATE TABLE IF NOT EXISTS {table} (
    key {key_type} PRIMARY KEY,
    value {value_type} NOT NULL,
    partition int NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
)
