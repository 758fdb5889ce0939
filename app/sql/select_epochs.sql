-- How often partitions were taken: of each number, by the topic of which it was most often.
SELECT partition, max(epoch) AS epoch
FROM redfaust.positions
WHERE app = $1
GROUP BY partition
