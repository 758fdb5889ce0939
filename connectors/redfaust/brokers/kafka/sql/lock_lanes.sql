-- One at a time sends on a lane. In order, so that no two wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('redfaust lane ' || lane, 0))
FROM unnest($1::text[]) AS lane
ORDER BY hashtextextended('redfaust lane ' || lane, 0)
