SELECT count(*) FROM redfaust.dead_letters WHERE app = $1 AND state = 'waiting'
