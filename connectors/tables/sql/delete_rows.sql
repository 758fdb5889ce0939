DELETE FROM {table} WHERE key IN (SELECT gone::{key_type} FROM unnest($1::{key_array}[]) AS gone)
