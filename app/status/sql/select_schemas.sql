SELECT namespace, max(number) AS applied
FROM redfaust.migrations
GROUP BY namespace
