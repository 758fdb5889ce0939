-- Waits while another transaction has the key. The second number keeps these locks apart from
-- those of others.
SELECT pg_advisory_xact_lock(hashtextextended($1, 7366826))
