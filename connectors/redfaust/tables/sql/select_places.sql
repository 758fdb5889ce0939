SELECT key{key_cast}, partition FROM {table}
