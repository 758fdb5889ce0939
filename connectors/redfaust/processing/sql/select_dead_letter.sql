SELECT * FROM redfaust.dead_letters WHERE id = $1
