SELECT version
FROM redfaust.registers
WHERE name = $1
