DELETE FROM redfaust.parked WHERE id = ANY ($1::bigint[])
