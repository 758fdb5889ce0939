-- $1 seconds. Sessions of this database that have waited for a lock for longer, and the sessions that
-- hold it. A role without rights does not see the names of other roles' sessions.
SELECT
    waiting.pid,
    coalesce(nullif(session.application_name, ''), 'a session') AS application,
    extract(epoch FROM clock_timestamp() - waiting.since)::float8 AS seconds,
    pg_blocking_pids(waiting.pid) AS blocked_by,
    (
        SELECT concat_ws(' ', nullif(blocker.application_name, ''), blocker.usename, blocker.state)
        FROM pg_stat_activity AS blocker
        WHERE blocker.pid = (pg_blocking_pids(waiting.pid))[1]
    ) AS blocker
FROM (
    SELECT pid, min(waitstart) AS since FROM pg_locks WHERE NOT granted GROUP BY pid
) AS waiting
JOIN pg_stat_activity AS session USING (pid)
JOIN pg_database AS database ON database.oid = session.datid
WHERE database.datname = current_database()
    AND waiting.since < clock_timestamp() - make_interval(secs => $1)
ORDER BY seconds DESC
LIMIT 20
