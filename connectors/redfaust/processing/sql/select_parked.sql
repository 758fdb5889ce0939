-- The first events of the lines of these keys, of each from an id on.
SELECT line.place, row.*
FROM unnest($2::text[], $3::text[], $4::int[], $5::bytea[], $6::bigint[])
    WITH ORDINALITY AS line (agent, topic, partition, key, first_id, place)
CROSS JOIN LATERAL (
    SELECT id, topic, partition, position, timestamp, key, value, headers, attempts
    FROM redfaust.parked AS parked
    WHERE parked.app = $1 AND parked.agent = line.agent AND parked.topic = line.topic
        AND parked.partition = line.partition
        -- As the index has it, in which keys of any length have room: nobody knows two with one hash.
        AND sha256(parked.key) = sha256(line.key)
        AND parked.id >= line.first_id
    ORDER BY parked.id
    LIMIT $7
) AS row
ORDER BY line.place, row.id
