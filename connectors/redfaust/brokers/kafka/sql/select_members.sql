-- The groups of which there is an assignment or a heartbeat.
SELECT name FROM redfaust.assignments
UNION
SELECT name FROM redfaust.heartbeats
ORDER BY name
