SELECT
    pg_is_in_recovery() AS is_standby,
    ARRAY(
        SELECT name
        FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
        ORDER BY name
    ) AS off
