from django.apps import AppConfig


class HttpConfig(AppConfig):
    """HTTP in and out: problems, pages, schemas, idempotency keys."""

    name = "chassis.http"
    label = "chassis_http"

    def ready(self) -> None:
        """Tell drf-spectacular about the fields of the chassis."""
        from chassis.http import schema  # noqa: F401
