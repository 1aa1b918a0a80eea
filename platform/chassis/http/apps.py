from django.apps import AppConfig

from chassis.imports import without

with without("requests", "markdown", "pygments", "django.contrib.postgres"):  # saves 8 to 18 MiB
    import rest_framework.compat  # noqa: F401


class HttpConfig(AppConfig):
    """HTTP: problem documents, pagination, schemas, idempotency keys."""

    name = "chassis.http"
    label = "chassis_http"

    def ready(self) -> None:
        """Register the chassis's serializer fields with drf-spectacular."""
        with without("jinja2"):  # of Django's test client, which drf-spectacular imports
            from chassis.http import schema  # noqa: F401
