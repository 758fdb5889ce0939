SELECT number, name, checksum FROM redfaust.migrations WHERE namespace = $1
