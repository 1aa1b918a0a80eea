"""Every metric of the chassis: name, type, labels, unit and meaning. Metrics are defined only here.

Times are in seconds, sizes in bytes; scraped counters end in `_total`. A process belongs to one service, which the scraper's
labels (job, instance) identify. `multiprocess_mode` defines how the gauges of several web processes are combined if
PROMETHEUS_MULTIPROC_DIR is set. django-prometheus counts HTTP requests and database statements (`django_*`).
"""

from prometheus_client import Counter, Gauge, Histogram

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)

# --- the process ---

PROCESS_UP = Gauge("service_up", "1 while this process runs.", ["service", "process"], multiprocess_mode="livemax")
"""`process` is web, relay or consume."""

LOOP_LAST_TURN = Gauge(
    "loop_last_turn_timestamp_seconds",
    "When the loop of this worker last ran, in seconds since the epoch; an old value means that it is stuck.",
    ["loop"],
    multiprocess_mode="mostrecent",
)

# --- outbox and relay ---

OUTBOX_WRITTEN = Counter("outbox_written", "Events written to the outbox, committed or not.", ["topic"])
OUTBOX_PUBLISHED = Counter("outbox_published", "Outbox rows that the broker acknowledged.", ["topic"])
OUTBOX_REFUSED = Counter(
    "outbox_refused", "Outbox rows that were parked because the broker will never accept them.", ["topic"]
)
COUNTED_EXACTLY = 10_000
OUTBOX_PENDING = Gauge(
    "outbox_pending",
    f"Outbox rows that wait to be sent. Exact up to {COUNTED_EXACTLY:,}; beyond that, estimated from their positions.",
    multiprocess_mode="mostrecent",
)
OUTBOX_OLDEST_AGE = Gauge(
    "outbox_oldest_age_seconds",
    "Age of the oldest outbox row that waits to be sent; 0 if there is none.",
    multiprocess_mode="mostrecent",
)
OUTBOX_PARKED = Gauge(
    "outbox_parked",
    f"Outbox rows that wait for an operator's decision; at {COUNTED_EXACTLY:,} there may be more.",
    multiprocess_mode="mostrecent",
)
OUTBOX_DELAY = Histogram(
    "outbox_delay_seconds", "Time from writing an outbox row to the broker's acknowledgement.", buckets=FAST
)
OUTBOX_TOPIC_WAITS = Gauge(
    "outbox_topic_waits",
    "1 while outbox rows wait because their topic cannot be written: it is missing, not permitted, or refuses them.",
    ["topic"],
    multiprocess_mode="livemax",
)
RELAY_BATCHES = Counter("outbox_relay_batches", "Batches of the relay.", ["outcome"])
"""`outcome` is sent, partial (some rows were refused) or failed (to be retried)."""
RELAY_BATCH_SIZE = Histogram("outbox_relay_batch_size", "Rows in a batch of the relay.", buckets=SIZES)
RELAY_BATCH_SECONDS = Histogram(
    "outbox_relay_batch_seconds", "Time from taking a batch to marking it as sent.", buckets=FAST
)
RELAY_ACTIVE = Gauge(
    "outbox_relay_active", "1 if this relay is active, 0 if it stands by.", multiprocess_mode="livemax"
)

# --- consumed events ---

EVENTS_CONSUMED = Counter("events_consumed", "Events whose effects are committed.", ["topic"])
EVENTS_DUPLICATE = Counter("events_duplicate", "Events that were skipped as duplicates.", ["topic"])
EVENTS_FAILED = Counter("events_failed", "Failed attempts to process an event.", ["topic", "reason"])
"""`reason` is unreadable, handler, timeout or crash: few values, never a message."""
EVENTS_RETRIED = Counter("events_retried", "Retries of events.", ["topic"])
EVENTS_DEAD_LETTERED = Counter(
    "events_dead_lettered", "Events that were written to the dead-letter topic.", ["topic", "reason"]
)
EVENTS_LOST = Counter(
    "events_lost",
    "Offsets that retention deleted before this group read them; an upper bound for the number of events.",
    ["topic"],
)
EVENTS_HELD = Gauge(
    "events_held",
    "Events in memory that wait for a retry or behind another event of their key.",
    ["topic"],
    multiprocess_mode="livesum",
)
EVENTS_DEPENDENCY_WAITS = Counter(
    "events_dependency_waits", "Waits for a dependency that was down or did not respond.", ["dependency"]
)
"""`dependency` is database or broker."""
EVENTS_STOPPED = Gauge(
    "events_stopped",
    "1 while a topic is stopped because key after key fails and none succeeds.",
    ["topic"],
    multiprocess_mode="livemax",
)
EVENTS_BATCH_SIZE = Histogram("events_batch_size", "Events in a processed batch.", buckets=SIZES)
EVENTS_BATCH_SECONDS = Histogram("events_batch_seconds", "Time from the start of a batch to its commit.", buckets=FAST)
EVENTS_DELAY = Histogram(
    "events_delay_seconds",
    "Time from a record's timestamp to the commit of its effects.",
    ["topic"],
    buckets=FAST,
)
HANDLER_SECONDS = Histogram("events_handler_seconds", "Duration of a handler call.", ["topic", "handler"], buckets=FAST)

CONSUMER_LAG = Gauge(
    "events_consumer_lag",
    "Records of an assigned partition that are not yet processed.",
    ["topic", "partition"],
    multiprocess_mode="livemax",
)
CONSUMER_ASSIGNED = Gauge(
    "events_consumer_assigned_partitions", "Partitions that this consumer owns.", multiprocess_mode="livesum"
)
CONSUMER_PAUSED = Gauge(
    "events_consumer_paused_partitions",
    "Partitions that are paused because too many events are held.",
    multiprocess_mode="livesum",
)
CONSUMER_REBALANCES = Counter("events_consumer_rebalances", "Changes of the partition assignment.", ["kind"])
"""`kind` is assigned, revoked or lost."""
TOPICS_RECREATED = Counter(
    "events_topics_recreated", "Topics that were deleted and recreated while a consumer was running.", ["topic"]
)

# --- housekeeping and HTTP ---

PURGED_ROWS = Counter("purged_rows", "Rows that were deleted after their retention time.", ["table"])
IDEMPOTENT_REPLAYS = Counter("http_idempotent_replays", "Stored responses that were returned for an Idempotency-Key.")
