-- $1 lanes. Those that their producers had on other timelines, or before lanes knew of them, and that
-- have batches, beginning with the oldest.
SELECT former.lane
FROM redfaust.lanes AS lane
JOIN
    redfaust.lanes AS former
    ON regexp_replace(former.producer, '[.][^/]*', '') = regexp_replace(lane.producer, '[.][^/]*', '')
WHERE
    lane.lane = ANY ($1)
    AND former.lane <> ALL ($1)
    AND EXISTS (SELECT FROM redfaust.batches AS batch WHERE batch.lane = former.lane)
ORDER BY former.producer
