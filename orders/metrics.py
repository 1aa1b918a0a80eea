"""The metrics of orders, besides those that every service has."""

from typing import Any

from chassis.observability.catalogue import counter, gauge
from chassis.observability.measures import measured_by_relay

COUNTED = 10_000

ORDERS = counter(
    "orders",
    "Orders that entered this status.",
    ["status"],
    on=("web", "consume"),
    values=[("pending",), ("paid",), ("failed",)],
)
PENDING = gauge("orders_pending", f"Orders whose payment is pending; at {COUNTED:,} there may be more.", on=("relay",))
OLDEST_PENDING = gauge(
    "orders_oldest_pending_seconds",
    "Age of the oldest order whose payment is pending; 0 if there is none.",
    on=("relay",),
)

# Both read only the partial index on pending orders.
COUNT = "SELECT count(*) FROM (SELECT 1 FROM orders WHERE status = 'pending' LIMIT %s) AS pending"
OLDEST = """
SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM orders
WHERE status = 'pending' ORDER BY created_at LIMIT 1
"""


@measured_by_relay
def measure_pending(cursor: Any) -> None:
    """Set the gauges of pending orders."""
    cursor.execute(COUNT, [COUNTED])
    (number,) = cursor.fetchone()
    cursor.execute(OLDEST)
    oldest = cursor.fetchone()
    PENDING.set(number)
    OLDEST_PENDING.set(0.0 if oldest is None else max(0.0, oldest[0]))
