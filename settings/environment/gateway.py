"""The variables that the gateway reads."""

from pydantic import Field

from settings.environment.base import CommaSeparated, Environment


class GatewayEnvironment(Environment):
    """The variables that the gateway reads."""

    trusted_proxies: CommaSeparated = Field((), description=Environment.model_fields["trusted_proxies"].description)
    gateway_connect_timeout_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        description="Timeout for connecting to a replica of a service. The gateway then tries the next one; without one, the"
        " response is 504.",
    )
    gateway_timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=600,
        description="Timeout for the whole exchange with a service, after which the response is 504.",
    )
    gateway_drain_seconds: float = Field(
        2.0,
        ge=0,
        le=60,
        description="How long the gateway reports that it is not ready, and keeps serving, after SIGTERM, so that load balancers"
        " stop sending requests. Set it to 0 if no load balancer checks readiness.",
    )
    gateway_max_body_bytes: int = Field(
        1_048_576, ge=1, description="Maximum size of a request body; larger ones are rejected with 413."
    )
    gateway_body_memory_bytes: int = Field(
        67_108_864,
        ge=0,
        description="Maximum memory for the bodies of all requests and responses. Beyond it, bodies are kept in files in the"
        " temporary folder.",
    )
    gateway_body_file_bytes: int = Field(
        1_073_741_824,
        ge=0,
        description="Maximum size of these files. Beyond it, requests are rejected with 503, and a service must wait for a client"
        " that reads its response slowly.",
    )
    gateway_max_connections: int = Field(
        4096,
        ge=1,
        description="Maximum number of client connections, limited to half of the process's open files. At the limit, a new"
        " connection replaces the one that has waited longest for its client; if all wait for a response, it is rejected with"
        " 503.",
    )
    gateway_max_connections_per_address: int = Field(
        0,
        ge=0,
        description="Maximum number of connections per client address; 0 sets no such limit. Does not apply to the addresses in"
        " TRUSTED_PROXIES, which many clients share.",
    )
    gateway_check_every_seconds: float = Field(
        5.0,
        ge=0,
        le=600,
        description="Interval at which the gateway checks its services for the metrics dependency_up and health_part_status; 0"
        " disables this, and these metrics.",
    )
    gateway_console_url: str = Field(
        "",
        pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+/?)?$",
        description="Address of the console, to which the start page leads in development; without a token.",
    )
    gateway_internal_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port that serves only /metrics, /health/ready and /health/live. The public port then returns 404 for the first"
        " two. With 0, the public port serves all three.",
    )
