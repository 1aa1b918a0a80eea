"""The variables that a service with a database reads: outbox, inbox, retention, admin login and PostgreSQL timeouts."""

from typing import Literal, Self

from pydantic import Field, model_validator

from settings.environment.messaging import Consumers

BROKER_HOURS = 1
"""How much later than that a broker may delete an event: it checks for old segments every 5 minutes
(`log.retention.check.interval.ms`), and its clock is not the database's."""


class Outbox(Consumers):
    """The variables that a service with a database reads."""

    outbox_batch_size: int = Field(
        1000, ge=1, le=100_000, description="Maximum number of outbox rows that the relay sends in one batch."
    )
    outbox_batch_bytes: int = Field(
        8_000_000,
        ge=1_000,
        description="Maximum number of bytes that the relay sends in one batch, and approximately what one `publish_all` holds in"
        " memory; a single row may be larger.",
    )
    outbox_poll_seconds: float = Field(
        1.0, gt=0, le=60, description="The relay polls the outbox at least this often, even without a notification."
    )
    outbox_parked_key: Literal["wait", "pass"] = Field(
        "wait",
        description="Whether later rows of the key of a parked row wait until an operator retries or discards it, or pass it.",
    )
    outbox_check_keys: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Raise UnlockedAggregate if two open transactions publish under one key; `auto` is on in development.",
    )
    purge_every_seconds: float = Field(
        600, ge=0, description="Interval at which the active relay purges old rows; 0 disables this (then run `purge`)."
    )
    outbox_retention_hours: float = Field(72, gt=0, description="How long sent outbox rows are kept.")
    inbox_retention_hours: float = Field(
        336,
        gt=0,
        description="How long ids of processed events are kept; at least KAFKA_TOPIC_RETENTION_HOURS +"
        " KAFKA_TOPIC_SEGMENT_HOURS + 1.",
    )
    idempotency_retention_hours: float = Field(
        24, gt=0, description="How long responses to requests with an Idempotency-Key are kept."
    )

    idempotency_wait_seconds: float = Field(
        3.0,
        gt=0,
        le=60,
        description="How long a request waits for a concurrent one with the same Idempotency-Key before it is rejected with 409.",
    )
    admin_login_attempts: int = Field(
        5,
        ge=1,
        le=1000,
        description="Number of failed admin logins after which an account must wait; an address must wait after four times as"
        " many.",
    )
    admin_login_window_seconds: float = Field(300, gt=0, description="How long a failed admin login counts.")

    database_statement_timeout_seconds: float = Field(
        15.0, gt=0, description="PostgreSQL cancels a statement that runs longer (`statement_timeout`)."
    )
    database_idle_transaction_seconds: float = Field(
        5.0,
        gt=0,
        description="PostgreSQL terminates a session whose transaction is idle for longer (`idle_in_transaction_session_timeout`)."
        " It limits how long others wait for the locks of a frozen process, and how long a handler may pause between two"
        " statements.",
    )
    database_connect_timeout_seconds: int = Field(3, ge=1, description="Timeout of a connection attempt.")

    @model_validator(mode="after")
    def _inbox_outlives_topics(self) -> Self:
        longest = self.kafka_topic_retention_hours + self.kafka_topic_segment_hours + BROKER_HOURS
        if self.inbox_retention_hours < longest:
            raise ValueError(
                f"INBOX_RETENTION_HOURS must be {longest} or more: KAFKA_TOPIC_RETENTION_HOURS + KAFKA_TOPIC_SEGMENT_HOURS"
                f" + {BROKER_HOURS}, since a topic may keep an event that long and a duplicate must be recognised"
            )
        return self
