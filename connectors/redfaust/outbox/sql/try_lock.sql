-- Whether the session has the lock now. The server ends a session that is silent for $2, since its
-- process was stopped, and so gives the lock to another.
SELECT
    pg_try_advisory_lock($1) AS has_lock,
    set_config('idle_session_timeout', $2, false)
