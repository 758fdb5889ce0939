DELETE FROM redfaust.outbox WHERE id = ANY($1::bigint[])
