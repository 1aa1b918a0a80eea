"""The connections at the database server, compared to the limit that applies first. Measured by the relay's clock of gauges."""

from typing import Any

from chassis.observability import metrics

STATES = ("active", "idle", "idle in transaction", "other")

# Three limits apply to a connection of this service: that of the server, of its database and of its role. Each counts other
# connections. The one that leaves the fewest is measured. The state of other roles' connections may be hidden, and is NULL.
QUERY = """
WITH client AS (
    SELECT CASE WHEN state IN ('active', 'idle') THEN state
                WHEN state LIKE 'idle in transaction%%' THEN 'idle in transaction' ELSE 'other' END AS state,
           datname = current_database() AS in_database, usename = session_user AS of_role
    FROM pg_stat_activity
    WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
), scope (name, most) AS (
    VALUES ('server', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                      - coalesce(current_setting('reserved_connections', true)::int, 0)),
           ('database', (SELECT datconnlimit FROM pg_database WHERE datname = current_database())),
           ('role', (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user))
), found AS (
    SELECT name, most, state FROM scope LEFT JOIN client
    ON CASE name WHEN 'server' THEN true WHEN 'database' THEN in_database ELSE of_role END
    WHERE most >= 0
)
SELECT most, count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state = 'idle'),
       count(*) FILTER (WHERE state = 'idle in transaction'), count(*) FILTER (WHERE state = 'other')
FROM found GROUP BY name, most ORDER BY most - count(state) LIMIT 1
"""


def measure(cursor: Any) -> None:
    """Set the gauges of the server's connections."""
    cursor.execute(QUERY, [])
    most, *numbers = cursor.fetchone()
    metrics.DB_SERVER_CONNECTION_MAX.set(most)
    for state, number in zip(STATES, numbers, strict=True):
        metrics.DB_SERVER_CONNECTIONS.labels(state).set(number)
