"""The variables that the console reads."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from settings.environment.base import Common


class ConsoleEnvironment(Common):
    """The variables that the console reads: where everything is, its own address, and how much it keeps in memory."""

    environment: Literal["production", "development"] = Field(
        "production", description=Common.model_fields["environment"].description
    )
    kafka_max_message_bytes: int = Field(
        1_000_000,
        ge=1_000,
        le=100_000_000,
        description="Maximum size of an event: key, value and headers, in bytes. Topics accept 64 KiB more, dead-letter topics"
        " 128 KiB more.",
    )
    console_port: int = Field(8600, ge=1, le=65535, description="Port of the console, on 127.0.0.1.")
    console_token: SecretStr = Field(
        SecretStr(""),
        description="Token with which a browser or a process gets access to the console, at least 16 characters. If empty, a"
        " random one is printed at every start.",
    )
    console_memory_bytes: int = Field(
        25_165_824,
        ge=1_048_576,
        le=1_073_741_824,
        description="Memory for spans and log lines, in bytes. Beyond it, the oldest ones are dropped.",
    )
    console_stories: int = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="Number of stories whose summary is kept; the oldest ones are dropped.",
    )
    console_logs: Path = Field(
        Path("var/log"),
        description="Folder with the log files of the processes, `NAME.log`; relative to the current one.",
    )
    console_processes: str = Field(
        "",
        description='The processes of the system, as JSON: `[{"name": "orders", "service": "orders", "kind": "web",'
        ' "url": "http://127.0.0.1:8002", "health_url": "http://127.0.0.1:8032"}, …]`. If empty, those of the declarations, on'
        " their usual ports of this machine.",
    )
    console_control: str = Field(
        "",
        description="Path of the socket by which `make up` accepts failures from the page Break it. If empty, the page offers"
        " none.",
    )
    operator_token: SecretStr = Field(
        SecretStr(""), description="Token with which the console reads the services' endpoints for staff."
    )

    @field_validator("environment")
    @classmethod
    def _only_in_development(cls, value: str) -> str:
        if value == "production":
            raise ValueError(
                "must be development: the console shows the inside of the system to anyone who has its token. In"
                " production use each service's admin (story, outbox, dead letters), Grafana and your tracing backend"
            )
        return value

    @field_validator("console_token")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters")
        return value
