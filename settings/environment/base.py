"""The variables that every process or every service reads, and the strict reader that reports all errors in one message."""

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
"""For a variable that is optional; an empty value counts as unset."""

CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class BadConfiguration(SystemExit):
    """The environment is invalid; the message names every variable that is invalid or missing."""


class Common(BaseSettings):
    """The variables that every process reads."""

    model_config = SettingsConfigDict(
        frozen=True,
        hide_input_in_errors=True,
        extra="ignore",
        case_sensitive=False,
        validate_default=True,
        secrets_dir=SECRETS_DIR if Path(SECRETS_DIR).is_dir() else None,
    )

    environment: Literal["production", "development"] = Field(
        "production",
        description="`development` allows DEBUG, provides a default SECRET_KEY and makes logs human-readable.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The lowest level to log.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is `json` in production and `console`, for people, in development."
    )
    build_version: str = Field(
        "unknown",
        description="Version of this build, in the metric `build_info` and in spans (`service.version`); the image sets it.",
    )
    kafka_bootstrap_servers: str = Field("localhost:9092", description="Brokers, `host:port`, comma-separated.")
    kafka_prefix: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]{0,62}[.-])?$",
        description="Prefix of the names of topics, consumer groups and transactional ids, with which several environments can"
        " share a cluster, such as `staging.`: at most 64 letters, digits, `.` and `-`, the last of them `.` or `-`.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol for connections to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism; used with a SASL protocol."
    )
    kafka_sasl_username: str = Field("", description="User name; used with a SASL protocol.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="Password; used with a SASL protocol.")
    kafka_ssl_ca_location: str = Field(
        "", description="Path of the CA bundle for SSL. If empty, the system's bundle is used."
    )

    @classmethod
    def read(cls) -> Self:
        """Read the environment and `/run/secrets`.

        Raises BadConfiguration, which names every invalid or missing variable.
        """
        try:
            return cls()
        except ValidationError as error:
            raise BadConfiguration(_explain(cls, error)) from None


class Environment(Common):
    """The variables that every service reads."""

    secret_key: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET),
        description="Django's SECRET_KEY, which signs sessions; at least 50 characters. Required in production.",
    )
    debug: bool = Field(False, description="Django's DEBUG; not allowed in production.")
    allowed_hosts: CommaSeparated = Field(
        ("localhost", "127.0.0.1", "[::1]"),
        description="Host names that the service can serve (Django's ALLOWED_HOSTS). Wildcards are not allowed in production.",
    )
    trusted_proxies: CommaSeparated = Field(
        ("127.0.0.0/8", "::1/128"),
        description="Networks whose X-Forwarded-* headers are trusted, such as `10.1.0.0/16,fd00::/8`: the gateway's and, in front of"
        " it, your own proxies'. From other addresses these headers are removed. Default: the local machine; at the gateway,"
        " none.",
    )
    cors_allowed_origins: CommaSeparated = Field(
        (),
        description="Origins of front-ends on other hosts whose pages may use the API, such as `https://app.example.org`. Set it to"
        " the same value for each service and the gateway.",
    )
    https_only: bool = Field(
        False,
        description="Redirect to HTTPS, set secure cookies and send HSTS. Set it if TLS is terminated in front of the system.",
    )

    @field_validator("allowed_hosts", "trusted_proxies", "cors_allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("allowed_hosts")
    @classmethod
    def _normalize_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Kubernetes gives a pod's address as `fd00::5`; a Host header contains it in brackets, in its shortest form.
        return tuple(map(_as_host, value))

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ip_network(network)) for network in value)
        except ValueError:
            raise ValueError("must be addresses or networks in CIDR notation, without host bits") from None

    @field_validator("cors_allowed_origins")
    @classmethod
    def _require_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("must be http(s)://host[:port], without a path")
        return tuple(origin.lower() for origin in value)

    # Field validators, not a model validator: then their errors are reported together with those of other fields.
    @field_validator("secret_key")
    @classmethod
    def _require_secret(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        secret = value.get_secret_value()
        if _in_production(info) and (secret == DEVELOPMENT_SECRET or len(secret) < 50):
            raise ValueError("must be set in production, to at least 50 random characters")
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
            raise ValueError("must not contain a wildcard in production")
        return value


class Backend(Environment):
    """The variables that each service behind the gateway reads."""

    operator_token: Annotated[SecretStr | None, Unset] = Field(
        None,
        description="Token of at least 32 characters with which tools may use the staff API (`/staff/`), such as the console of"
        " `make up`. Not allowed in production, where staff log in to the admin.",
    )

    @field_validator("operator_token")
    @classmethod
    def _only_in_development(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        if _in_production(info):
            raise ValueError("must not be set in production: it does not prove who uses it")
        if not re.fullmatch(r"[!-~]{32,}", value.get_secret_value()):
            raise ValueError("must be at least 32 visible ASCII characters")
        return value


_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)


def _as_host(text: str) -> str:
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return text
    return f"[{address.compressed}]" if address.version == 6 else text


HINT = (
    "See docs/settings.md for a description of every variable. On a developer's machine, set ENVIRONMENT=development,"
    " or source var/dev.env while `make up` runs."
)


def _in_production(info: ValidationInfo) -> bool:
    return info.data.get("environment") != "development"


def _explain(cls: type[Common], error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"]).upper()
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_pattern_mismatch":  # the description is easier to read than the pattern
            message += f". {cls.model_fields[str(problem['loc'][0])].description}"
        lines.append(f"  {name}: {message}" if name else f"  {message}")
    return "\n".join(
        [
            f"The configuration of this service is invalid ({cls.__name__}):",
            *lines,
            HINT,
        ]
    )
