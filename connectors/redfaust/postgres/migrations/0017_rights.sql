-- What connectors/redfaust/rights/roles.sql grants for whole schemas is too much for some tables, and too
-- little for others. Roles that do not exist are left out.
CREATE FUNCTION redfaust.grant_rights() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF to_regrole('redfaust_web') IS NOT NULL THEN
        GRANT INSERT ON redfaust.outbox TO redfaust_web;
        REVOKE ALL ON redfaust.kafka_secrets FROM redfaust_web;
    END IF;
    IF to_regrole('redfaust_console') IS NOT NULL THEN
        REVOKE ALL ON redfaust.kafka_secrets FROM redfaust_console;
    END IF;
    IF to_regrole('redfaust_worker') IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON redfaust.migrations FROM redfaust_worker;
    END IF;
    IF to_regrole('redfaust_relay') IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON redfaust.migrations FROM redfaust_relay;
    END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION redfaust.grant_rights() FROM PUBLIC;

SELECT redfaust.grant_rights();
