#!/bin/sh
# Starts Redis with a user for each kind of process. Configured through standard input, so that no
# password is an argument.
set -eu
users=$(sed -e "/^user redfaust_worker / s/\$/ >$WORKER_PASSWORD/" \
    -e "/^user redfaust_relay / s/\$/ >$RELAY_PASSWORD/" \
    -e "/^user redfaust_web / s/\$/ >$WEB_PASSWORD/" "${USERS_ACL:-/redfaust/users.acl}")
exec redis-server - "$@" <<END
appendonly yes
save ""
requirepass $REDIS_PASSWORD
$users
END
