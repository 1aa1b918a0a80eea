from django.apps import AppConfig

from chassis.imports import without

with without("requests", "markdown", "pygments", "django.contrib.postgres"):  # 8 to 18 MiB that nothing here uses
    import rest_framework.compat  # noqa: F401


class HttpConfig(AppConfig):
    """HTTP in and out: problems, pages, schemas, idempotency keys."""

    name = "chassis.http"
    label = "chassis_http"

    def ready(self) -> None:
        """Tell drf-spectacular about the fields of the chassis."""
        from chassis.http import schema  # noqa: F401
