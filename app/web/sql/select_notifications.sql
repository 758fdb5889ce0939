SELECT value FROM notifications WHERE value ->> 'user_id' = $1 ORDER BY updated_at DESC LIMIT $2
