"""Every metric of the chassis: name, type, labels, unit and meaning. Metrics are defined only here.

Times are in seconds, sizes in bytes; scraped counters end in `_total`. A process belongs to one service, which the scraper's
labels (service, process, instance) identify. docs/metrics.md is generated from these definitions. django-prometheus counts
the database statements (`django_db_*`).
"""

from chassis.observability.catalogue import EVERY, SECONDS, SIZES, WORKERS, counter, gauge, histogram

# --- the process ---

BUILD_INFO = gauge("build_info", "1, with the versions of the build and of Python.", ["version", "python"], on=EVERY)

LOOP_LAST_TURN = gauge(
    "loop_last_turn_timestamp_seconds",
    "When the loop of this worker last ran, in seconds since the epoch; an old value means that it is stuck.",
    ["loop"],
    on=(*WORKERS, "monitor"),
)

DEPENDENCY_UP = gauge(
    "dependency_up",
    "1 if the last attempt to reach a dependency succeeded, otherwise 0. Before the first, 1, and at the gateway 0.",
    ["dependency"],
    on=EVERY,
    mode="livemostrecent",
)
"""`dependency` is database, broker, dead_letter_topic or group_coordinator; at the gateway, each service."""
HEALTH_PART_STATUS = gauge(
    "health_part_status",
    "Result of the last check of a part of /health/ready: 1 works, 0.5 degraded, 0 fails.",
    ["part"],
    on=EVERY,
    mode="livemostrecent",
)

SPANS_DROPPED = counter(
    "spans_dropped",
    "Spans that did not reach the collector.",
    ["reason"],
    on=EVERY,
    values=[("queue_full",), ("export_failed",)],
)
"""`reason` is queue_full or export_failed."""

# --- outbox and relay ---

OUTBOX_WRITTEN = counter(
    "outbox_written", "Events written to the outbox, committed or not.", ["topic"], on=("web", "consume")
)
OUTBOX_PUBLISHED = counter("outbox_published", "Outbox rows that the broker acknowledged.", ["topic"], on=("relay",))
OUTBOX_REFUSED = counter(
    "outbox_refused",
    "Outbox rows that were parked because the broker will never accept them.",
    ["topic"],
    on=("relay",),
)
COUNTED_EXACTLY = 10_000
OUTBOX_PENDING = gauge(
    "outbox_pending",
    f"Outbox rows that wait to be sent. Exact up to {COUNTED_EXACTLY:,}; beyond that, estimated from their positions.",
    on=("relay",),
)
OUTBOX_OLDEST_AGE = gauge(
    "outbox_oldest_age_seconds",
    "Age of the oldest outbox row that waits to be sent; 0 if there is none.",
    on=("relay",),
)
OUTBOX_PARKED = gauge(
    "outbox_parked",
    f"Outbox rows that wait for an operator's decision; at {COUNTED_EXACTLY:,} there may be more.",
    on=("relay",),
)
OUTBOX_DELAY = histogram(
    "outbox_delay_seconds", "Time from writing an outbox row to the broker's acknowledgement.", on=("relay",)
)
OUTBOX_TOPIC_WAITS = gauge(
    "outbox_topic_waits",
    "1 while outbox rows wait because their topic cannot be written: it is missing, not permitted, or refuses them.",
    ["topic"],
    on=("relay",),
)
RELAY_BATCHES = counter(
    "outbox_relay_batches",
    "Batches of the relay.",
    ["outcome"],
    on=("relay",),
    values=[("sent",), ("partial",), ("failed",)],
)
"""`outcome` is sent, partial (some rows were refused) or failed (to be retried)."""
RELAY_BATCH_SIZE = histogram("outbox_relay_batch_size", "Rows in a batch of the relay.", buckets=SIZES, on=("relay",))
RELAY_BATCH_SECONDS = histogram(
    "outbox_relay_batch_seconds", "Time from taking a batch to marking it as sent.", on=("relay",)
)
RELAY_ACTIVE = gauge("outbox_relay_active", "1 if this relay is active, 0 if it stands by.", on=("relay",))

# --- consumed events ---

EVENTS_CONSUMED = counter("events_consumed", "Events whose effects are committed.", ["topic"], on=("consume",))
EVENTS_DUPLICATE = counter("events_duplicate", "Events that were skipped as duplicates.", ["topic"], on=("consume",))
EVENTS_FAILED = counter("events_failed", "Failed attempts to process an event.", ["topic", "reason"], on=("consume",))
"""`reason` is unreadable, handler, timeout or crash (deadletters/record.py): few values, never a message."""
EVENTS_RETRIED = counter("events_retried", "Retries of events.", ["topic"], on=("consume",))
EVENTS_DEAD_LETTERED = counter(
    "events_dead_lettered", "Events that were written to the dead-letter topic.", ["topic", "reason"], on=("consume",)
)
EVENTS_LOST = counter(
    "events_lost",
    "Offsets that retention deleted before this group read them; an upper bound for the number of events.",
    ["topic"],
    on=("consume",),
)
EVENTS_HELD = gauge(
    "events_held",
    "Events in memory that wait for a retry or behind another event of their key.",
    ["topic"],
    on=("consume",),
)
EVENTS_BLOCKED_KEYS = gauge(
    "events_blocked_keys",
    "Keys of which an event failed and waits for a retry; later events of the key wait behind it.",
    ["topic"],
    on=("consume",),
)
EVENTS_DEPENDENCY_WAITS = counter(
    "events_dependency_waits",
    "Waits for a dependency that was down or did not respond.",
    ["dependency"],
    on=("consume",),
)
"""`dependency` is database or broker."""
EVENTS_STOPPED = gauge(
    "events_stopped",
    "1 while a topic is stopped because key after key fails and none succeeds.",
    ["topic"],
    on=("consume",),
)
EVENTS_BATCH_SIZE = histogram("events_batch_size", "Events in a processed batch.", buckets=SIZES, on=("consume",))
EVENTS_BATCH_SECONDS = histogram(
    "events_batch_seconds", "Time from the start of a batch to its commit.", on=("consume",)
)
EVENTS_DELAY = histogram(
    "events_delay_seconds", "Time from a record's timestamp to the commit of its effects.", ["topic"], on=("consume",)
)
EVENTS_SINCE_ORIGIN = histogram(
    "events_since_origin_seconds",
    "Time from the request that began an event's chain to the commit of the event's effects.",
    ["topic"],
    on=("consume",),
)
PROCESS_SECONDS = histogram(
    "messaging_process_duration_seconds",
    "Time per event in its handler: the duration of a call that succeeded, divided by its number of events.",
    ["messaging_destination_name"],
    on=("consume",),
    buckets=(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, *SECONDS),
)

CONSUMER_LAG = gauge(
    "events_consumer_lag",
    "Records of an assigned partition that are not yet processed.",
    ["topic", "partition"],
    on=("consume",),
)
CONSUMER_ASSIGNED = gauge("events_consumer_assigned_partitions", "Partitions that this consumer owns.", on=("consume",))
CONSUMER_PAUSED = gauge(
    "events_consumer_paused_partitions", "Partitions that are paused because too many events are held.", on=("consume",)
)
CONSUMER_REBALANCES = counter(
    "events_consumer_rebalances",
    "Changes of the partition assignment.",
    ["kind"],
    on=("consume",),
    values=[("assigned",), ("revoked",), ("lost",)],
)
"""`kind` is assigned, revoked or lost."""
TOPICS_RECREATED = counter(
    "events_topics_recreated",
    "Topics that were deleted and recreated while a consumer was running.",
    ["topic"],
    on=("consume",),
)

# --- the cluster, as the monitor sees it ---

KAFKA_UP = gauge("kafka_up", "1 if the brokers responded to the monitor when it last asked.", on=("monitor",))
KAFKA_BROKERS = gauge("kafka_brokers", "Running brokers; 0 if none responds.", on=("monitor",))
KAFKA_TOPIC_PARTITIONS = gauge("kafka_topic_partitions", "Partitions of a topic.", ["topic"], on=("monitor",))
KAFKA_GROUP_LAG = gauge(
    "kafka_consumergroup_lag",
    "Records after the committed offset of a consumer group; 1 at rest if a transactional producer writes the topic.",
    ["consumergroup", "topic", "partition"],
    on=("monitor",),
)
KAFKA_GROUP_OFFSET = gauge(
    "kafka_consumergroup_current_offset",
    "Committed offset of a consumer group.",
    ["consumergroup", "topic", "partition"],
    on=("monitor",),
)
KAFKA_GROUP_MEMBERS = gauge(
    "kafka_consumergroup_members", "Members of a consumer group.", ["consumergroup"], on=("monitor",)
)
KAFKA_DEAD_LETTERS = gauge(
    "kafka_dead_letters",
    "Records in a dead-letter topic: dead letters, and the records and transaction markers of those that were resolved.",
    ["topic"],
    on=("monitor",),
)

# --- Kafka clients ---

KAFKA_BROKER_RTT = gauge(
    "kafka_client_broker_rtt_seconds",
    "Average round-trip time of this process's requests to a broker, identified by its node id, over five seconds.",
    ["broker"],
    on=WORKERS,
)
KAFKA_QUEUE_MESSAGES = gauge(
    "kafka_client_queue_messages", "Records in the producers' queues, in transit to the broker.", on=WORKERS
)

# --- database server ---

DB_SERVER_CONNECTIONS = gauge(
    "db_server_connection_count",
    "Connections at the database server that count towards db_server_connection_max.",
    ["state"],
    on=("relay",),
)
"""`state` is active, idle, idle in transaction or other (which includes those whose state this role may not see)."""
DB_SERVER_CONNECTION_MAX = gauge(
    "db_server_connection_max",
    "Connections that the server allows: the limit of the server, of the database or of the role, whichever leaves fewest.",
    on=("relay",),
)

# --- housekeeping ---

PURGED_ROWS = counter("purged_rows", "Rows that were deleted after their retention time.", ["table"], on=("relay",))
PURGE_LAST_SUCCESS = gauge(
    "purge_last_success_timestamp_seconds",
    "When this process last purged old rows without an error, or started to; in seconds since the epoch, 0 if it never purges.",
    on=("relay",),
)

# --- HTTP ---

HTTP_REQUEST_SECONDS = histogram(
    "http_server_request_duration_seconds",
    "Duration of a request, except those of probes, scrapes and staff.",
    ["http_request_method", "http_route", "http_response_status_code"],
    on=("gateway", "web"),
)
"""The route is the template of the path, empty if none matches; the method is `_OTHER` if it is unknown."""
HTTP_ACTIVE_REQUESTS = gauge(
    "http_server_active_requests",
    "Requests in progress, except probes and scrapes.",
    on=("gateway", "web"),
    mode="livesum",
)
HTTP_QUEUE_SECONDS = histogram(
    "http_server_queue_seconds", "Time that a request waited for a thread after its first bytes arrived.", on=("web",)
)
HTTP_THREADS = gauge(
    "http_server_threads",
    "Threads for requests, by state: busy or idle.",
    ["state"],
    on=("web",),
    mode="livesum",
    values=[("busy",), ("idle",)],
)
IDEMPOTENT_REPLAYS = counter(
    "http_idempotent_replays", "Stored responses that were returned for an Idempotency-Key.", on=("web",)
)

# --- database connections: one per thread that uses the database ---

DB_CONNECTIONS = gauge(
    "db_client_connection_count",
    "Open connections to the database, by state: used (in a statement or a transaction) or idle.",
    ["state"],
    on=("web", *WORKERS),
    mode="livesum",
    values=[("used",), ("idle",)],
    needs_database=True,
)
DB_CONNECTION_MAX = gauge(
    "db_client_connection_max",
    "Connections that this process can have: one for each thread that uses the database.",
    on=("web", *WORKERS),
    mode="livesum",
    needs_database=True,
)
DB_CONNECTION_CREATE_SECONDS = histogram(
    "db_client_connection_create_time_seconds",
    "Time to open a connection to the database.",
    on=("web", *WORKERS),
    needs_database=True,
)
DB_CONNECTION_ERRORS = counter(
    "db_client_connection_errors",
    "Connections to the database that could not be opened.",
    on=("web", *WORKERS),
    needs_database=True,
)
