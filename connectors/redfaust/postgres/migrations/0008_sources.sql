-- What a partition's consumer has had, in terms that survive a broker which fails over to a replica
-- that lacks the latest entries: they come again under other offsets.
ALTER TABLE redfaust.positions
    -- Of the broker, when the partition was taken. With another one entries may have been lost.
    ADD COLUMN incarnation text,
    -- Lane to the highest number of its entries below the position.
    ADD COLUMN applied jsonb NOT NULL DEFAULT '{}',
    -- Entries without a lane are finished up to here, though the position may have been set back.
    ADD COLUMN passed numeric(39) NOT NULL DEFAULT 0;
