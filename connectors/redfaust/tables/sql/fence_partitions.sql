-- $1 application, $2 topics, $3 how many partitions each is to have. Whoever has some of them cannot
-- commit any more, and nobody can take any until this transaction ends. Those that are new belong to
-- no log yet: they begin where the broker's group does.
INSERT INTO redfaust.positions AS held (app, log, topic, partition, position)
SELECT $1, '', topic, partition, 0
FROM unnest($2::text[]) AS topic
CROSS JOIN generate_series(0, $3::int - 1) AS partition
-- In the same order as everybody, so that no two wait for each other.
ORDER BY topic, partition
ON CONFLICT (app, topic, partition) DO UPDATE SET epoch = held.epoch + 1
