"""What every service reads, and how the environment is read: once, strictly, every wrong variable named at once."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
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
    trusted_proxies: CommaSeparated = Field(
        ("127.0.0.0/8", "::1/128"),
        description="Networks whose X-Forwarded-* are believed, `10.1.0.0/16,fd00::/8`: the gateway's and, in front of it, your"
        " proxies'; of anybody else they are dropped. By default this machine's, at the gateway none. Empty: none.",
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

    @field_validator("allowed_hosts", "trusted_proxies", "cors_allowed_origins", mode="before")
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

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ip_network(network)) for network in value)
        except ValueError:
            raise ValueError("must be addresses or networks in CIDR form, without bits behind the prefix") from None

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
        if problem["type"] == "string_pattern_mismatch":  # few read a pattern
            message += f". {cls.model_fields[str(problem['loc'][0])].description}"
        lines.append(f"  {name}: {message}" if name else f"  {message}")
    return "\n".join(
        [
            f"The configuration of this service is wrong ({cls.__name__}):",
            *lines,
            HINT,
        ]
    )
