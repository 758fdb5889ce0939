-- $1 lanes, $2 the highest mark of each, $3 numbers to leave out above.
UPDATE redfaust.lanes AS lane
SET last_number = greatest(lane.last_number, marked.mark) + $3
FROM unnest($1::text[], $2::bigint[]) AS marked (lane, mark)
WHERE lane.lane = marked.lane
RETURNING lane.lane, lane.last_number
