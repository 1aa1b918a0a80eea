"""What a service with a consumer reads."""

from typing import Annotated, Literal

from pydantic import Field

from settings.environment.base import Environment, Unset


class Topics(Environment):
    """How `manage.py topics` makes topics."""

    kafka_topic_partitions: int = Field(6, ge=1, le=1000, description="Partitions of each topic.")
    kafka_topic_replication_factor: int = Field(
        0, ge=0, le=9, description="Copies of each partition; 0 is 3 where there are three brokers, else 1."
    )
    kafka_topic_min_insync_replicas: int = Field(
        0, ge=0, le=9, description="Copies that must have a record before it is acknowledged; 0 is 2 of 3, else 1."
    )
    kafka_topic_retention_hours: int = Field(168, ge=1, description="How long topics keep events.")
    kafka_topic_segment_hours: int = Field(
        24,
        ge=1,
        le=168,
        description="Kafka deletes whole segments, so a record may stay this much longer than its retention time.",
    )
    kafka_dead_letter_retention_hours: int = Field(720, ge=1, description="How long dead-letter topics keep events.")
    kafka_max_message_bytes: int = Field(
        1_000_000,
        ge=1_000,
        le=100_000_000,
        description="Largest event: key, value and headers, in bytes. Topics allow 64 KiB more, dead-letter topics 128 KiB.",
    )


class Consumers(Topics):
    """How `manage.py consume` works."""

    consumer_id: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,80}$",
        description="Stable name of this worker slot, unique among the service's replicas (`orders-0`): a process that is"
        " started again under it has its partitions back at once. Empty: a new member at every start.",
    )
    consumer_batch_size: int = Field(500, ge=1, le=10_000, description="Most events in one transaction.")
    consumer_session_timeout_seconds: Annotated[float | None, Unset] = Field(
        None,
        ge=1,
        le=300,
        description="After this long without a heartbeat a consumer's partitions go to another. Unset: 4 s, or 6 s where the"
        " broker refuses 4 s (`group.min.session.timeout.ms`, 6 s by default).",
    )
    consumer_batch_bytes: int = Field(
        8_000_000,
        ge=100_000,
        description="Most bytes of keys, values and headers in one transaction, and in hand for the next; a larger event is"
        " handled alone.",
    )
    consumer_held_events: int = Field(
        10_000,
        ge=16,
        description="Most events of a process that wait in memory behind failing ones; before that, the partitions that hold"
        " most are paused.",
    )
    consumer_held_bytes: int = Field(32_000_000, ge=1_000, description="The same, in bytes.")
    consumer_on_lost_events: Literal["continue", "wait"] = Field(
        "continue",
        description="Where retention deleted events before they were handled: continue behind them, or let the partition wait"
        " for a person (`consume --accept-lost`).",
    )
    handler_timeout_seconds: float = Field(30.0, gt=0, le=240, description="A handler that runs longer has failed.")
    retry_attempts: int = Field(8, ge=1, le=100, description="Tries of an event before it is dead-lettered.")
    retry_base_seconds: float = Field(0.2, gt=0, description="Wait after the first failed try.")
    retry_factor: float = Field(2.0, ge=1, le=10, description="Each wait is this much longer than the one before.")
    retry_cap_seconds: float = Field(30.0, gt=0, description="No wait is longer.")
    consumer_stop_after_keys: int = Field(
        10,
        ge=0,
        description="When events of so many distinct keys of a topic fail one after another, and none succeeds, the topic is"
        " stopped: nothing of it is dead-lettered, and it resumes by itself when an event succeeds. 0: never.",
    )
    kafka_transaction_timeout_seconds: float = Field(
        4.0,
        ge=1,
        le=900,
        description="The broker aborts the transaction of a dead worker or redrive after this long.",
    )
    worker_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of a worker's /health/live, /health/ready and /metrics; 0 takes a free one and logs it.",
    )
    worker_host: str = Field("127.0.0.1", description="Address that a worker's port listens on.")
