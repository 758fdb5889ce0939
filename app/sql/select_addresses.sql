SELECT email FROM users WHERE user_id = $1
