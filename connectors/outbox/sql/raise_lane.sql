UPDATE redfaust.lanes SET last_number = greatest(last_number, $2) + $3
WHERE lane = $1
RETURNING last_number
