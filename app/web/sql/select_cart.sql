SELECT value FROM public.carts WHERE key = $1
