SELECT version, register
FROM redfaust.registers
WHERE name = $1
