-- Those keys that no other transaction has, which are locked until this one ends. The second number
-- keeps these locks apart from those of others. Whoever has them then waits for a mail server, which
-- is slower than a database.
SELECT key
FROM
    (SELECT set_config('idle_in_transaction_session_timeout', '60s', true)) AS patient,
    unnest($1::text[]) AS key
WHERE pg_try_advisory_xact_lock(hashtextextended(key, 7366826))
