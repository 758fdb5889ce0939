SELECT topic, partition, position FROM redfaust.positions WHERE app = $1 AND log = $2
