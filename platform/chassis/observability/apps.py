from django.apps import AppConfig


class ObservabilityConfig(AppConfig):
    """Logs, traces and metrics; tracing is configured when Django is ready."""

    name = "chassis.observability"
    label = "chassis_observability"

    def ready(self) -> None:
        """Configure tracing, once per process."""
        from django.conf import settings

        from chassis.observability import resource, tracing

        environment = getattr(settings, "ENVIRONMENT", "")
        tracing.configure(settings.SERVICE_NAME, environment=environment, role=resource.role())
