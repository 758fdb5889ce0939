SELECT key AS order_id, value ->> 'status' AS status FROM public.order_states WHERE key = ANY ($1::text[])
