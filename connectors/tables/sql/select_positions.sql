SELECT topic, partition, position, ahead FROM redfaust.positions WHERE app = $1 AND log = $2
