SELECT value FROM public.order_states WHERE key = $1
