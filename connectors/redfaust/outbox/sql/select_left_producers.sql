-- $1 seconds for which something has been unpublished.
SELECT DISTINCT producer_id
FROM redfaust.batches
WHERE published_at IS NULL AND committed_at < now() - make_interval(secs => $1)
