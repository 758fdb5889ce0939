-- Forgets events below these floors, some of them: the oldest, in a bounded time.
DELETE FROM redfaust.inbox AS known
WHERE known.agent = $1
    AND known.event IN (
        SELECT old.event
        FROM redfaust.inbox AS old
        JOIN unnest($4::text[], $5::int[], $6::numeric[]) AS floors (topic, partition, floor)
            USING (topic, partition)
        WHERE old.agent = $1
            AND old.changed_at < now() - make_interval(secs => $2)
            AND old.position < floors.floor
        ORDER BY old.changed_at
        LIMIT $3
        FOR UPDATE OF old SKIP LOCKED
    )
