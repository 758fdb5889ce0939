-- What the web API writes, each row in one transaction with its event. The agents' own tables
-- (profiles, carts, order_states, notifications) are made by the workers.

CREATE TABLE users (
    user_id text PRIMARY KEY,
    email text NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Nobody has two accounts that differ by upper and lower case alone.
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE orders (
    order_id text PRIMARY KEY,
    user_id text NOT NULL REFERENCES users,
    items jsonb NOT NULL,
    currency text NOT NULL,
    -- Minor units.
    total bigint NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX orders_placed_at ON orders (placed_at);
CREATE INDEX orders_user_id ON orders (user_id);

CREATE TABLE idempotency_keys (
    key text PRIMARY KEY,
    -- Digest of the request that the key was first used with.
    request bytea NOT NULL,
    -- NULL only inside the transaction that is about to answer.
    status int,
    body jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- What the embedded mail sink received.
CREATE TABLE mailbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL UNIQUE,
    recipient text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
