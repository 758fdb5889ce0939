-- What waits for another attempt is counted now and then, and is little of all that is remembered.
CREATE INDEX inbox_waiting ON redfaust.inbox (agent, topic) WHERE due_at IS NOT NULL;
