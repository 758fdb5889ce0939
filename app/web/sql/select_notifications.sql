SELECT value FROM notifications WHERE user_id = $1 ORDER BY updated_at DESC LIMIT $2
