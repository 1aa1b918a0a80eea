"""The variables that a service with topics or a consumer reads."""

from typing import Annotated, Literal

from pydantic import Field

from settings.environment.base import Backend, Common, Unset


class Topics(Backend):
    """The variables for `manage.py topics`."""

    kafka_topic_partitions: int = Field(6, ge=1, le=1000, description="Number of partitions per topic.")
    kafka_topic_replication_factor: int = Field(
        0,
        ge=0,
        le=9,
        description="Number of replicas per partition; 0 means 3 on a cluster of at least three brokers, otherwise 1.",
    )
    kafka_topic_min_insync_replicas: int = Field(
        0,
        ge=0,
        le=9,
        description="Number of replicas that must have a record before it is acknowledged; 0 means 2 of at least 3, otherwise 1.",
    )
    kafka_topic_retention_hours: int = Field(168, ge=1, description="How long topics keep events.")
    kafka_topic_segment_hours: int = Field(
        24,
        ge=1,
        le=168,
        description="Time after which a segment is closed. Kafka deletes whole segments, so a record may be kept this much longer"
        " than the retention time.",
    )
    kafka_dead_letter_retention_hours: int = Field(
        720, ge=1, description="How long dead-letter topics keep dead letters."
    )
    kafka_max_message_bytes: int = Field(
        1_000_000,
        ge=1_000,
        le=100_000_000,
        description="Maximum size of an event: key, value and headers, in bytes. Topics accept 64 KiB more, dead-letter topics"
        " 128 KiB more.",
    )


class WorkerPort(Common):
    """Where a process that serves no pages serves its health checks and metrics."""

    worker_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which a worker serves /health/live, /health/ready and /metrics; 0 chooses a free port and logs it.",
    )
    worker_host: str = Field("127.0.0.1", description="Address on which a worker listens.")


class Consumers(Topics, WorkerPort):
    """The variables for `manage.py consume`."""

    consumer_id: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,80}$",
        description="Stable id of this consumer, unique among the service's replicas, such as `orders-0` (Kafka's"
        " `group.instance.id`). A consumer that restarts under the same id keeps its partitions. If empty, every start is a"
        " new member.",
    )
    consumer_batch_size: int = Field(
        1_000, ge=1, le=10_000, description="Maximum number of events that are processed in one transaction."
    )
    consumer_session_timeout_seconds: Annotated[float | None, Unset] = Field(
        None,
        ge=1,
        le=300,
        description="Time without a heartbeat after which a consumer's partitions are reassigned. If unset, 4 s, or 6 s if the"
        " broker rejects 4 s (`group.min.session.timeout.ms`, 6 s by default).",
    )
    consumer_batch_bytes: int = Field(
        8_000_000,
        ge=100_000,
        description="Maximum number of bytes of keys, values and headers in one transaction, and in the backlog for the next ones;"
        " a larger event is processed alone.",
    )
    consumer_held_events: int = Field(
        10_000,
        ge=16,
        description="Maximum number of held events per process. Before it is reached, the partitions with the most held events"
        " are paused.",
    )
    consumer_held_bytes: int = Field(32_000_000, ge=1_000, description="Maximum size of held events, in bytes.")
    consumer_on_lost_events: Literal["continue", "wait"] = Field(
        "continue",
        description="If retention deleted events before they were processed: `continue` after them, or let the partition `wait`"
        " for an operator (`consume --accept-lost`).",
    )
    handler_timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=240,
        description="Time limit of a handler; a call that takes longer is interrupted and has failed.",
    )
    retry_attempts: int = Field(
        8, ge=1, le=100, description="Maximum number of attempts before an event is dead-lettered."
    )
    retry_base_seconds: float = Field(0.2, gt=0, description="Delay after the first failed attempt.")
    retry_factor: float = Field(2.0, ge=1, le=10, description="Factor by which the delay grows after each attempt.")
    retry_cap_seconds: float = Field(30.0, gt=0, description="Maximum delay between two attempts.")
    consumer_stop_after_keys: int = Field(
        10,
        ge=0,
        description="Number of distinct keys of a topic whose events must fail in a row, with none succeeding, for the topic to be"
        " stopped. None of its events is dead-lettered then, and it resumes when an event succeeds. 0 disables this.",
    )
    kafka_transaction_timeout_seconds: float = Field(
        4.0,
        ge=1,
        le=900,
        description="Time after which the broker aborts the open transaction of a worker or redrive that died.",
    )
