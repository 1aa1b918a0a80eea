"""What a service with a database reads: its outbox, its inbox, and how it talks to PostgreSQL."""

from typing import Literal, Self

from pydantic import Field, model_validator

from settings.environment.messaging import Consumers

BROKER_HOURS = 1
"""What a broker may take beyond that: it looks for old segments every 5 minutes (`log.retention.check.interval.ms`), and
its clock is not the database's."""


class Outbox(Consumers):
    """How a service with a database keeps what it publishes and what it has consumed."""

    outbox_batch_size: int = Field(1000, ge=1, le=100_000, description="Most outbox rows in one flush.")
    outbox_batch_bytes: int = Field(
        8_000_000,
        ge=1_000,
        description="Most bytes in one flush, and about what one `publish_all` holds in memory; one row may be larger.",
    )
    outbox_poll_seconds: float = Field(
        1.0, gt=0, le=60, description="The relay looks for rows at least this often, woken or not."
    )
    outbox_parked_key: Literal["wait", "pass"] = Field(
        "wait", description="Later rows of a key whose row is parked wait for a person's decision, or pass it."
    )
    outbox_check_keys: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Raise UnlockedAggregate where two open transactions publish under one key; `auto` is on in development.",
    )
    purge_every_seconds: float = Field(
        600, ge=0, description="The relay that sends purges old rows this often; 0 is never (then run `purge`)."
    )
    outbox_retention_hours: float = Field(72, gt=0, description="`purge` keeps sent rows this long.")
    inbox_retention_hours: float = Field(
        336,
        gt=0,
        description="`purge` keeps event ids this long; at least KAFKA_TOPIC_RETENTION_HOURS + KAFKA_TOPIC_SEGMENT_HOURS + 1.",
    )
    idempotency_retention_hours: float = Field(
        24, gt=0, description="`purge` keeps answers to Idempotency-Keys this long."
    )

    idempotency_wait_seconds: float = Field(
        3.0,
        gt=0,
        le=60,
        description="A request waits this long for its twin with the same Idempotency-Key; then it is a 409.",
    )
    admin_login_attempts: int = Field(
        5,
        ge=1,
        le=1000,
        description="Wrong passwords of an account in the admin before one has to wait; of an address four times as many.",
    )
    admin_login_window_seconds: float = Field(300, gt=0, description="A wrong password counts for this long.")

    database_statement_timeout_seconds: float = Field(15.0, gt=0, description="PostgreSQL ends a slower statement.")
    database_idle_transaction_seconds: float = Field(
        5.0,
        gt=0,
        description="PostgreSQL ends a transaction that is idle for longer: so long others wait for what a frozen process holds,"
        " and so long a handler may do something else between two statements.",
    )
    database_connect_timeout_seconds: int = Field(3, ge=1, description="Give up a connection attempt after this long.")

    @model_validator(mode="after")
    def _inbox_outlives_topics(self) -> Self:
        longest = self.kafka_topic_retention_hours + self.kafka_topic_segment_hours + BROKER_HOURS
        if self.inbox_retention_hours < longest:
            raise ValueError(
                f"INBOX_RETENTION_HOURS must be {longest} or more: KAFKA_TOPIC_RETENTION_HOURS + KAFKA_TOPIC_SEGMENT_HOURS"
                f" + {BROKER_HOURS}, as topics keep events that long and a repeat must be known"
            )
        return self
