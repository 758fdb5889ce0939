-- Sets a group back where its log is another one, unless somebody has meanwhile.
UPDATE redfaust.kafka_groups AS kept
SET position = row.first
FROM unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[])
    AS row (topic, partition, position, first)
WHERE kept.log = $1
    AND kept.name = $2
    AND kept.topic = row.topic
    AND kept.partition = row.partition
    AND kept.position = row.position
