-- Creates the roles of one database, and grants them their rights. Run it in that database, as a
-- superuser, before the first `redfaust migrate`; running it again does no harm. README.md beside this
-- file says who uses which role. None has a password yet:
--
--     ALTER ROLE redfaust_worker PASSWORD '…';

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[
        'redfaust_owner', 'redfaust_worker', 'redfaust_relay', 'redfaust_web', 'redfaust_console'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO redfaust_owner', current_database());
    -- Nobody else may connect, or create temporary tables.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

-- Only the owner creates tables. What lies in "public" besides redfaust's is up to who put it there.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO redfaust_owner;
GRANT USAGE ON SCHEMA public TO redfaust_worker, redfaust_web, redfaust_console;

CREATE SCHEMA IF NOT EXISTS redfaust AUTHORIZATION redfaust_owner;
GRANT USAGE ON SCHEMA redfaust
    TO redfaust_worker, redfaust_relay, redfaust_web, redfaust_console;

-- What the owner creates from now on, in any schema: workers write it, web and console read it.
ALTER DEFAULT PRIVILEGES FOR ROLE redfaust_owner
    GRANT USAGE ON SCHEMAS TO redfaust_worker, redfaust_web, redfaust_console;
ALTER DEFAULT PRIVILEGES FOR ROLE redfaust_owner
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO redfaust_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE redfaust_owner
    GRANT SELECT ON TABLES TO redfaust_web, redfaust_console;
ALTER DEFAULT PRIVILEGES FOR ROLE redfaust_owner IN SCHEMA redfaust
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO redfaust_relay;

-- The same of what is there already. Of an application's schema that is older than its roles run
-- this once, with its name in place of "shop":
--
--     GRANT USAGE ON SCHEMA shop TO redfaust_worker, redfaust_web, redfaust_console;
--     GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO redfaust_worker;
--     GRANT SELECT ON ALL TABLES IN SCHEMA shop TO redfaust_web, redfaust_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA redfaust
    TO redfaust_worker, redfaust_relay;
GRANT SELECT ON ALL TABLES IN SCHEMA redfaust TO redfaust_web, redfaust_console;

-- And what is different for single tables. A migration makes this function, and calls it too.
DO $$
BEGIN
    IF to_regprocedure('redfaust.grant_rights()') IS NOT NULL THEN
        PERFORM redfaust.grant_rights();
    END IF;
END
$$;
