-- A name that no other database has, wherever it is reached.
SELECT control.system_identifier || '/' || database.oid
FROM pg_control_system() AS control, pg_database AS database
WHERE database.datname = current_database()
