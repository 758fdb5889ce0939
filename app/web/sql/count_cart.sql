-- Locks the user until the transaction ends, so that carts are published in the order of their
-- numbers.
UPDATE public.users SET cart_number = cart_number + 1 WHERE user_id = $1 RETURNING cart_number
