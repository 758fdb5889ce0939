-- The groups of which there is a register or a beat.
SELECT name FROM redfaust.registers
UNION
SELECT name FROM redfaust.beats
ORDER BY name
