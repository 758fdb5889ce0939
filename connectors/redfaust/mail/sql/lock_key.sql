-- The same for one key, for which this waits while another transaction has it.
SELECT
    set_config('idle_in_transaction_session_timeout', '60s', true),
    pg_advisory_xact_lock(hashtextextended($1, 7366826))
