SELECT user_id, email FROM users WHERE user_id = ANY ($1::text[])
