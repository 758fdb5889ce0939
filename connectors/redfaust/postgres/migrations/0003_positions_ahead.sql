-- What is finished above the position: offset (as text) to the agents that have finished it, an
-- empty list where all have.
ALTER TABLE redfaust.positions ADD COLUMN ahead jsonb NOT NULL DEFAULT '{}';

-- The commit that wrote the row, by which one whose answer was lost is recognised.
ALTER TABLE redfaust.positions ADD COLUMN batch uuid;
