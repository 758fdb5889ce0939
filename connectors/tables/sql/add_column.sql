ALTER TABLE {table} ADD COLUMN {column} {column_type} GENERATED ALWAYS AS ({expression}) STORED
