SELECT topic, count(*) AS waiting
FROM redfaust.dead_letters
WHERE app = $1 AND state = 'waiting'
GROUP BY topic
