-- As far as they can be: what is written next is checked with what comes behind it.
SET CONSTRAINTS ALL DEFERRED
