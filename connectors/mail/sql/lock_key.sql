-- Waits while another transaction has the key. The second number keeps these locks apart from
-- those of others. Whoever has it then waits for a mail server, which is slower than a database.
SELECT
    set_config('idle_in_transaction_session_timeout', '60s', true),
    pg_advisory_xact_lock(hashtextextended($1, 7366826))
