-- The user stays until the transaction ends.
SELECT user_id FROM public.users WHERE user_id = $1 FOR KEY SHARE
