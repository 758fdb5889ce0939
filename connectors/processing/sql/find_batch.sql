SELECT EXISTS (SELECT FROM redfaust.positions WHERE app = $1 AND batch = $2)
