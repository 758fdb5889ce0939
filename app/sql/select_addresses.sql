SELECT user_id, email FROM public.users WHERE user_id = ANY ($1::text[])
