"""The base class of checks from django-health-check, without its own checks, which import a DNS and a mail client."""

from chassis.imports import without_init

without_init("health_check")

from health_check.base import HealthCheck  # noqa: E402
from health_check.exceptions import HealthCheckException, ServiceUnavailable, ServiceWarning  # noqa: E402

__all__ = ["HealthCheck", "HealthCheckException", "ServiceUnavailable", "ServiceWarning"]
