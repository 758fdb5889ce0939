SELECT order_id, user_id, items, currency, placed_at FROM public.orders WHERE order_id = $1
