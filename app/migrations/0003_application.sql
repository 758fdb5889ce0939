-- Under which REDFAUST_APP_ID the shop works on this database: its agents' tables are here once, so
-- there is one. The first worker writes it.
CREATE TABLE application (
    id text NOT NULL,
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only)
);

INSERT INTO application (id)
SELECT app
FROM redfaust.positions
WHERE topic IN ('users', 'orders', 'notifications')
GROUP BY app
HAVING count(DISTINCT topic) = 3
ORDER BY max(committed_at) DESC
LIMIT 1;
