"""What the gateway reads."""

from pydantic import Field

from settings.environment.base import CommaSeparated, Environment


class GatewayEnvironment(Environment):
    """What the gateway reads."""

    trusted_proxies: CommaSeparated = Field((), description=Environment.model_fields["trusted_proxies"].description)
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
        description="What the bodies of all requests and responses together may take of memory; beyond it they wait in files of"
        " the temporary folder.",
    )
    gateway_body_file_bytes: int = Field(
        1_073_741_824,
        ge=0,
        description="What they may take of files. Beyond it requests are refused with 503, and a service is held back by a client"
        " that reads its response slowly.",
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
        description="The same for each client address; not for the addresses in TRUSTED_PROXIES, which many clients share."
        " 0: no limit per address.",
    )
    gateway_internal_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port for /metrics, /health/ready and /health/live alone; the public one then answers 404 to the first two."
        " 0: they are on the public port.",
    )
