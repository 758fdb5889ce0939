SELECT redfaust.publish($1, $2, $3, $4)
