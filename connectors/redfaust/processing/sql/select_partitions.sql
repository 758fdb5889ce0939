-- $1 application, $2 topics. How many partitions each has, as far as anybody has taken or added them.
SELECT topic, max(partition) + 1 AS partitions
FROM redfaust.positions
WHERE app = $1 AND topic = ANY ($2)
GROUP BY topic
