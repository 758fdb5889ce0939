DELETE FROM redfaust.parked WHERE app = $1 AND topic = ANY($2::text[])
