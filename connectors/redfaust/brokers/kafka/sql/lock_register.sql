-- One at a time writes a group's register, also its first one.
SELECT pg_advisory_xact_lock(hashtextextended('redfaust register ' || $1, 0))
