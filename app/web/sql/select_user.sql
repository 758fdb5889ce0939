SELECT user_id, email, name, created_at FROM users WHERE user_id = $1
