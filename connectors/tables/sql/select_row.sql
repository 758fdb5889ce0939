SELECT key{key_cast}, value{value_cast}, partition FROM {table} WHERE key = $1::{key_array}::{key_type}
