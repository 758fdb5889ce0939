-- A plan made while the table was tiny would go on reading all of it for each key as it grows.
SET LOCAL enable_seqscan = off
