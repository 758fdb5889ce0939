INSERT INTO public.users (user_id, email, name) VALUES ($1, $2, $3) RETURNING created_at
