SELECT topic, count(*) AS events
FROM redfaust.parked
WHERE app = $1
GROUP BY topic
ORDER BY topic
