SELECT value FROM carts WHERE key = $1
