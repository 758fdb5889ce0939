-- For the rest of the transaction. A role may have them, for statements of another size.
SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true)
