-- One process at a time sends for a producer. In order, so that no two wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('redfaust producer ' || producer_id, 0))
FROM unnest($1::text[]) AS producer_id
ORDER BY hashtextextended('redfaust producer ' || producer_id, 0)
