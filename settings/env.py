"""The environment, read once and strictly: every variable of the system, its type, its bounds and its default.

`docs/settings.md` is this file as a table; a test holds the two together. A wrong or missing variable ends the start
with one message that names all of them at once and never prints a value.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AnyHttpUrl,
    BeforeValidator,
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

Unset = BeforeValidator(lambda value: None if value == "" else value)
"""May be left out, or empty."""

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
    cors_allowed_origins: CommaSeparated = Field(
        (),
        description="Front-ends on other hosts, `https://app.example.org`, whose pages may use the API; the same at each service and"
        " the gateway. Empty: none.",
    )
    https_only: bool = Field(
        False, description="Redirect to HTTPS, secure cookies and HSTS: set where TLS ends in front of the system."
    )

    kafka_bootstrap_servers: str = Field("localhost:9092", description="Brokers, `host:port`, comma-separated.")
    kafka_prefix: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]{0,62}[.-])?$",
        description="Put before the names of topics, consumer groups and transactional ids, so that environments can share a"
        " cluster (`staging.`): letters, digits, `.` and `-`, at most 64; ends in `.` or `-`.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to reach the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="With a SASL protocol."
    )
    kafka_sasl_username: str = Field("", description="With a SASL protocol.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="With a SASL protocol.")
    kafka_ssl_ca_location: str = Field("", description="Path of the CA bundle for SSL; empty is the system's.")

    @field_validator("allowed_hosts", "cors_allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("allowed_hosts")
    @classmethod
    def _bracketed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # A pod's address comes bare (`fd00::5`), a Host header has it in brackets and in its shortest form.
        return tuple(map(_as_host, value))

    @field_validator("cors_allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("must be http(s)://host[:port], nothing behind it")
        return tuple(origin.lower() for origin in value)

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


_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)


def _as_host(text: str) -> str:
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return text
    return f"[{address.compressed}]" if address.version == 6 else text


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


DIRECT_URL = (
    "Set where `{}` leads through a pooler in transaction mode, as PgBouncer: the same database and role without it, for"
    " `relay` and `migrate`."
)


class UsersEnvironment(Outbox):
    """What users reads."""

    users_database_url: PostgresDsn = Field(description="postgresql://user:password@host:port/userdb")
    users_database_direct_url: Annotated[PostgresDsn | None, Unset] = Field(
        None, description=DIRECT_URL.format("USERS_DATABASE_URL")
    )


class OrdersEnvironment(Outbox):
    """What orders reads."""

    orders_database_url: PostgresDsn = Field(description="postgresql://user:password@host:port/orderdb")
    orders_database_direct_url: Annotated[PostgresDsn | None, Unset] = Field(
        None, description=DIRECT_URL.format("ORDERS_DATABASE_URL")
    )


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
    gateway_body_memory_bytes: int = Field(
        67_108_864,
        ge=0,
        description="What all request bodies together may take of memory; beyond it they wait in files of the temporary folder.",
    )
    gateway_max_connections: int = Field(
        4096,
        ge=1,
        description="Most connections of clients; fewer where the process may open fewer than twice as many files. For a new"
        " one the connection is closed that has waited for its client for the longest; 503 where all wait for an answer.",
    )
    gateway_max_connections_per_address: int = Field(
        0,
        ge=0,
        description="The same for one address; 0 is no cap of its own, as behind a load balancer, whose address all have.",
    )
    gateway_internal_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port for /metrics, /health/ready and /health/live alone; the public one then answers 404 to the first two."
        " 0: they are on the public port.",
    )

    @field_validator("users_url", "orders_url", "payments_url", mode="before")
    @classmethod
    def _urls(cls, value: object) -> object:
        parts = [part.strip().rstrip("/") for part in value.split(",")] if isinstance(value, str) else value
        for part in parts:  # type: ignore[attr-defined]
            url = AnyHttpUrl(part)
            if url.scheme != "http" or (url.path or "/") != "/":
                raise ValueError("must be http://host:port without a path")
        return tuple(parts)  # type: ignore[arg-type]
