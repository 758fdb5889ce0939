-- One at a time writes a group's assignment, also its first one.
SELECT pg_advisory_xact_lock(hashtextextended('redfaust assignment ' || $1, 0))
