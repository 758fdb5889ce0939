#!/bin/sh
# Run once by the image of Postgres, in a database that is new: the roles, and their passwords.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --quiet \
    --file /redfaust/roles.sql
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --quiet \
    --set owner="$OWNER_PASSWORD" --set worker="$WORKER_PASSWORD" \
    --set relay="$RELAY_PASSWORD" --set web="$WEB_PASSWORD" <<'SQL'
ALTER ROLE redfaust_owner PASSWORD :'owner';
ALTER ROLE redfaust_worker PASSWORD :'worker';
ALTER ROLE redfaust_relay PASSWORD :'relay';
ALTER ROLE redfaust_web PASSWORD :'web';
SQL
