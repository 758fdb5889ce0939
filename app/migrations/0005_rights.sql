-- The web API may read what is the owner's, and write its own tables.
DO $$
BEGIN
    IF to_regrole('redfaust_web') IS NOT NULL THEN
        GRANT INSERT, UPDATE, DELETE ON users, orders, idempotency_keys TO redfaust_web;
    END IF;
END
$$;
