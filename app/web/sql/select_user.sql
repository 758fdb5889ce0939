SELECT user_id, email, name, created_at FROM public.users WHERE user_id = $1
