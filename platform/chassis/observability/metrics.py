"""Every metric of the chassis: name, type, labels, unit and meaning. Nothing else in it makes a metric.

Times are in seconds, sizes in bytes; counters end in `_total` when they are scraped. A process serves one service, so
the scraper's own labels (job, instance) say which. The gauges say how several workers of one service add up where
PROMETHEUS_MULTIPROC_DIR is set. HTTP requests and database statements are counted by django-prometheus (`django_*`).
"""

from prometheus_client import Counter, Gauge, Histogram

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)

# --- the process ---

PROCESS_UP = Gauge("service_up", "1 while this process runs.", ["service", "process"], multiprocess_mode="livemax")
"""`process` is web, relay or consume."""

LOOP_LAST_TURN = Gauge(
    "loop_last_turn_timestamp_seconds",
    "When the loop of this worker last turned, in seconds since the epoch; old means stuck.",
    ["loop"],
    multiprocess_mode="mostrecent",
)

# --- outbox and relay ---

OUTBOX_WRITTEN = Counter("outbox_written", "Events written to the outbox, committed or not.", ["topic"])
OUTBOX_PUBLISHED = Counter("outbox_published", "Outbox rows that the broker confirmed.", ["topic"])
OUTBOX_REFUSED = Counter(
    "outbox_refused", "Outbox rows that the broker refused for good and that are now parked.", ["topic"]
)
COUNTED_EXACTLY = 10_000
OUTBOX_PENDING = Gauge(
    "outbox_pending",
    f"Outbox rows that wait to be sent. Counted up to {COUNTED_EXACTLY:,}; more are estimated by their positions.",
    multiprocess_mode="mostrecent",
)
OUTBOX_OLDEST_AGE = Gauge(
    "outbox_oldest_age_seconds",
    "Age of the oldest outbox row that waits to be sent; 0 if none.",
    multiprocess_mode="mostrecent",
)
OUTBOX_PARKED = Gauge(
    "outbox_parked",
    f"Outbox rows that wait for a person's decision; at {COUNTED_EXACTLY:,} there may be more.",
    multiprocess_mode="mostrecent",
)
OUTBOX_DELAY = Histogram(
    "outbox_delay_seconds", "From writing an outbox row to the broker's confirmation.", buckets=FAST
)
OUTBOX_TOPIC_WAITS = Gauge(
    "outbox_topic_waits",
    "1 while outbox rows wait as their topic cannot be written: it is missing, closed to us, or refuses.",
    ["topic"],
    multiprocess_mode="livemax",
)
RELAY_BATCHES = Counter("outbox_relay_batches", "Batches of the relay.", ["outcome"])
"""`outcome` is sent, partial (some rows refused) or failed (tried again)."""
RELAY_BATCH_SIZE = Histogram("outbox_relay_batch_size", "Rows in a batch of the relay.", buckets=SIZES)
RELAY_BATCH_SECONDS = Histogram(
    "outbox_relay_batch_seconds", "From taking a batch to marking it as sent.", buckets=FAST
)
RELAY_ACTIVE = Gauge(
    "outbox_relay_active", "1 where this relay sends, 0 where it stands by.", multiprocess_mode="livemax"
)

# --- events consumed ---

EVENTS_CONSUMED = Counter("events_consumed", "Events whose effect is committed.", ["topic"])
EVENTS_DUPLICATE = Counter("events_duplicate", "Events that came again and were passed over.", ["topic"])
EVENTS_FAILED = Counter("events_failed", "Tries of an event that failed.", ["topic", "reason"])
"""`reason` is unreadable, handler, timeout or crash: few values, never a message."""
EVENTS_RETRIED = Counter("events_retried", "Further tries of events that failed before.", ["topic"])
EVENTS_DEAD_LETTERED = Counter("events_dead_lettered", "Events sent to the dead-letter topic.", ["topic", "reason"])
EVENTS_LOST = Counter(
    "events_lost", "Offsets that retention deleted before this group read them; at most so many events.", ["topic"]
)
EVENTS_HELD = Gauge(
    "events_held", "Events in memory that wait for a retry or behind one.", ["topic"], multiprocess_mode="livesum"
)
EVENTS_DEPENDENCY_WAITS = Counter(
    "events_dependency_waits", "Waits for a dependency that was down or did not answer.", ["dependency"]
)
"""`dependency` is database or broker."""
EVENTS_STOPPED = Gauge(
    "events_stopped",
    "1 while a topic is stopped, as key after key of it fails and none succeeds.",
    ["topic"],
    multiprocess_mode="livemax",
)
EVENTS_BATCH_SIZE = Histogram("events_batch_size", "Events in a consumed batch.", buckets=SIZES)
EVENTS_BATCH_SECONDS = Histogram("events_batch_seconds", "From a batch in hand to its commit.", buckets=FAST)
EVENTS_DELAY = Histogram(
    "events_delay_seconds",
    "From the time that a record has on Kafka to the commit of its effect.",
    ["topic"],
    buckets=FAST,
)
HANDLER_SECONDS = Histogram(
    "events_handler_seconds", "Duration of one call of a handler.", ["topic", "handler"], buckets=FAST
)

CONSUMER_LAG = Gauge(
    "events_consumer_lag",
    "Records of an assigned partition not consumed yet.",
    ["topic", "partition"],
    multiprocess_mode="livemax",
)
CONSUMER_ASSIGNED = Gauge(
    "events_consumer_assigned_partitions", "Partitions that this consumer owns.", multiprocess_mode="livesum"
)
CONSUMER_PAUSED = Gauge(
    "events_consumer_paused_partitions", "Partitions paused as too much is held back.", multiprocess_mode="livesum"
)
CONSUMER_REBALANCES = Counter("events_consumer_rebalances", "Changes of the assignment.", ["kind"])
"""`kind` is assigned, revoked or lost."""
TOPICS_RECREATED = Counter(
    "events_topics_recreated", "Topics found deleted and made again under a running consumer.", ["topic"]
)

# --- housekeeping and HTTP ---

PURGED_ROWS = Counter("purged_rows", "Rows deleted after their retention time.", ["table"])
IDEMPOTENT_REPLAYS = Counter("http_idempotent_replays", "Answers given again for an Idempotency-Key.")
