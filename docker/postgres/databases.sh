#!/bin/sh
# Run by the PostgreSQL image at its first start: creates one role and one database per service, isolated from each other.
set -eu

# services: databases, generated
databases="users:userdb orders:orderdb"
# end of generated

secrets=${SECRETS:-/run/secrets}

create_database() { # role, database
    # The password goes from file to server without passing a command line.
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set role="$1" --set database="$2" --set file="$secrets/${1}_database_password" <<'SQL'
\set password `cat :'file'`
CREATE ROLE :"role" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"role";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
}

for pair in $databases; do
    create_database "${pair%:*}" "${pair#*:}"
done

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
SQL
