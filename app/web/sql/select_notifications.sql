SELECT value FROM public.notifications WHERE user_id = $1 ORDER BY updated_at DESC LIMIT $2
