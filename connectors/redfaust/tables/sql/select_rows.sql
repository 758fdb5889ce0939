SELECT key{key_cast}, value{value_cast}, partition FROM {table} WHERE partition = ANY ($1::int[])
