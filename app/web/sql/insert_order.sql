-- Returns the number of the cart that the user has at this moment.
INSERT INTO public.orders (order_id, user_id, items, currency, total) VALUES ($1, $2, $3, $4, $5)
RETURNING (SELECT cart_number FROM public.users WHERE users.user_id = $2)
