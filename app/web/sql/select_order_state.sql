SELECT value FROM order_states WHERE key = $1
