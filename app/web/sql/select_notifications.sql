-- The newest first, behind the place of $3 and $4 if they are given.
SELECT key, updated_at, value FROM public.notifications
WHERE user_id = $1 AND ($3::timestamptz IS NULL OR (updated_at, key) < ($3, $4))
ORDER BY updated_at DESC, key DESC
LIMIT $2
