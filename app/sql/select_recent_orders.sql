SELECT order_id, user_id, currency, total, placed_at FROM public.orders ORDER BY placed_at DESC LIMIT $1
