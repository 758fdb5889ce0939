INSERT INTO public.orders (order_id, user_id, items, currency, total) VALUES ($1, $2, $3, $4, $5)
