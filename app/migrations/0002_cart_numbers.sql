-- How many times the user's cart was replaced: an order empties the cart that the user had when it
-- was placed, and none that came later.
ALTER TABLE users ADD COLUMN cart_number bigint NOT NULL DEFAULT 0;
