SELECT to_regclass('redfaust.migrations') IS NOT NULL
