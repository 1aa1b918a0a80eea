"""The environment, read once and strictly: every variable of the system, its type, its bounds and its default.

`docs/settings.md` is this file as a table; a test holds the two together. A wrong or missing variable ends the start
with one message that names all of them at once and never prints a value.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AnyHttpUrl,
    Field,
    PostgresDsn,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SECRETS_DIR = "/run/secrets"
DEVELOPMENT_SECRET = "development-only-not-a-secret-0123456789abcdefghijklmnopqrstuvwxyz"  # noqa: S105

CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class BadConfiguration(SystemExit):
    """The environment does not fit; the message names every variable that is wrong or missing."""


class Environment(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(
        frozen=True,
        hide_input_in_errors=True,
        extra="ignore",
        case_sensitive=False,
        validate_default=True,
        secrets_dir=SECRETS_DIR if Path(SECRETS_DIR).is_dir() else None,
    )

    environment: Literal["production", "development"] = Field(
        "production", description="`development` allows DEBUG, gives SECRET_KEY a default and makes logs readable."
    )
    secret_key: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET), description="Signs sessions; 50 characters or more. Required in production."
    )
    debug: bool = Field(False, description="Django's DEBUG; refused in production.")
    allowed_hosts: CommaSeparated = Field(
        ("localhost", "127.0.0.1", "[::1]"),
        description="Host names that the service answers to; no wildcard in production.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The lowest level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is JSON in production and readable in development."
    )
    trust_forwarded_headers: bool = Field(
        True, description="Believe X-Forwarded-*: true where only the gateway or your own proxy can reach the service."
    )
    https_only: bool = Field(
        False, description="Redirect to HTTPS, secure cookies and HSTS: set where TLS ends in front of the system."
    )

    kafka_bootstrap_servers: str = Field("localhost:9092", description="Brokers, `host:port`, comma-separated.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to reach the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="With a SASL protocol."
    )
    kafka_sasl_username: str = Field("", description="With a SASL protocol.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="With a SASL protocol.")
    kafka_ssl_ca_location: str = Field("", description="Path of the CA bundle for SSL; empty is the system's.")

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    # By field, not for the whole: then these are named together with whatever else is wrong.
    @field_validator("secret_key")
    @classmethod
    def _own_secret(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        secret = value.get_secret_value()
        if _in_production(info) and (secret == DEVELOPMENT_SECRET or len(secret) < 50):
            raise ValueError("must be set in production, to 50 random characters or more")
        return value

    @field_validator("debug")
    @classmethod
    def _no_debug(cls, value: bool, info: ValidationInfo) -> bool:
        if _in_production(info) and value:
            raise ValueError("must be off in production")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _no_wildcard(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if _in_production(info) and any("*" in host or host.startswith(".") for host in value):
            raise ValueError("must not hold a wildcard in production")
        return value

    @classmethod
    def read(cls) -> Self:
        """Read the environment and `/run/secrets`.

        Raises BadConfiguration with every wrong variable at once.
        """
        try:
            return cls()
        except ValidationError as error:
            raise BadConfiguration(_explain(cls, error)) from None


HINT = (
    "Every variable is explained in docs/settings.md. On a developer's machine set ENVIRONMENT=development,"
    " or source var/dev.env while `make up` runs."
)


def _in_production(info: ValidationInfo) -> bool:
    return info.data.get("environment") != "development"


def _explain(cls: type[Environment], error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"]).upper()
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"  {name}: {message}" if name else f"  {message}")
    return "\n".join(
        [
            f"The configuration of this service is wrong ({cls.__name__}):",
            *lines,
            HINT,
        ]
    )


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
    consumer_session_timeout_seconds: float = Field(
        4.0,
        ge=1,
        le=300,
        description="After this long without a heartbeat a consumer's partitions go to another;"
        " not less than the broker's group.min.session.timeout.ms, which is 6 s unless you set it.",
    )
    consumer_held_events: int = Field(
        10_000,
        ge=1,
        description="Most events of a partition that wait in memory behind failing ones; then it is paused.",
    )
    consumer_held_bytes: int = Field(32_000_000, ge=1_000, description="The same, in bytes.")
    handler_timeout_seconds: float = Field(30.0, gt=0, le=240, description="A handler that runs longer has failed.")
    retry_attempts: int = Field(8, ge=1, le=100, description="Tries of an event before it is dead-lettered.")
    retry_base_seconds: float = Field(0.2, gt=0, description="Wait after the first failed try.")
    retry_factor: float = Field(2.0, ge=1, le=10, description="Each wait is this much longer than the one before.")
    retry_cap_seconds: float = Field(30.0, gt=0, description="No wait is longer.")
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
    purge_every_seconds: float = Field(
        600, ge=0, description="The relay that sends purges old rows this often; 0 is never (then run `purge`)."
    )
    outbox_retention_hours: float = Field(72, gt=0, description="`purge` keeps sent rows this long.")
    inbox_retention_hours: float = Field(
        336, gt=0, description="`purge` keeps event ids this long; longer than the topics."
    )
    idempotency_retention_hours: float = Field(
        24, gt=0, description="`purge` keeps answers to Idempotency-Keys this long."
    )

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
        if self.inbox_retention_hours <= self.kafka_topic_retention_hours:
            raise ValueError("INBOX_RETENTION_HOURS must be longer than KAFKA_TOPIC_RETENTION_HOURS")
        return self


class UsersEnvironment(Outbox):
    """What users reads."""

    users_database_url: PostgresDsn = Field(description="postgresql://user:password@host:port/userdb")


class OrdersEnvironment(Outbox):
    """What orders reads."""

    orders_database_url: PostgresDsn = Field(description="postgresql://user:password@host:port/orderdb")


class PaymentsEnvironment(Consumers):
    """What payments reads."""

    payment_success_rate: float = Field(0.9, ge=0, le=1, description="Share of orders whose payment succeeds.")
    payment_latency_seconds: float = Field(0.0, ge=0, le=60, description="How long the simulated provider takes.")


class GatewayEnvironment(Environment):
    """What the gateway reads."""

    trust_forwarded_headers: bool = Field(
        False, description="At the gateway: add to the client's own X-Forwarded-*: only behind a proxy that sets them."
    )
    users_url: CommaSeparated = Field(
        ("http://localhost:8001",), description="Base URLs of users' replicas, comma-separated."
    )
    orders_url: CommaSeparated = Field(("http://localhost:8002",), description="Base URLs of orders' replicas.")
    payments_url: CommaSeparated = Field(("http://localhost:8003",), description="Base URLs of payments' replicas.")
    gateway_connect_timeout_seconds: float = Field(1.0, gt=0, le=60, description="Then the next replica, or 504.")
    gateway_timeout_seconds: float = Field(30.0, gt=0, le=600, description="Whole upstream exchange; then 504.")
    gateway_drain_seconds: float = Field(
        2.0,
        ge=0,
        le=60,
        description="After SIGTERM the gateway says for this long that it is not ready, and serves on, so that a load balancer"
        " can turn away from it; 0 where nobody asks.",
    )
    gateway_max_body_bytes: int = Field(1_048_576, ge=1, description="Larger request bodies are refused with 413.")

    @field_validator("users_url", "orders_url", "payments_url", mode="before")
    @classmethod
    def _urls(cls, value: object) -> object:
        parts = [part.strip().rstrip("/") for part in value.split(",")] if isinstance(value, str) else value
        for part in parts:  # type: ignore[attr-defined]
            url = AnyHttpUrl(part)
            if url.scheme != "http" or (url.path or "/") != "/":
                raise ValueError("must be http://host:port without a path")
        return tuple(parts)  # type: ignore[arg-type]
