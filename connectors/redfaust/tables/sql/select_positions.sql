-- $1 application, $2 the log.
SELECT topic, partition, position FROM redfaust.positions WHERE app = $1 AND log = $2
