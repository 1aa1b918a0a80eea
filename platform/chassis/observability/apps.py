import sys

from django.apps import AppConfig


class ObservabilityConfig(AppConfig):
    """Logs, traces and metrics; tracing is configured when Django is ready."""

    name = "chassis.observability"
    label = "chassis_observability"

    def ready(self) -> None:
        """Configure tracing, once per process, and export the version."""
        from django.conf import settings

        from chassis.observability import resource, sampling, tracing

        environment = getattr(settings, "ENVIRONMENT", "")
        version = getattr(settings, "BUILD_VERSION", "")
        tracing.configure(settings.SERVICE_NAME, version=version, environment=environment, role=resource.role())
        sampling.sample(_sample_build)


def _sample_build() -> None:
    # Sampled, since a value that is set before a fork is not the forked process's own.
    from django.conf import settings

    from chassis.observability import metrics

    python = ".".join(map(str, sys.version_info[:3]))
    metrics.BUILD_INFO.labels(settings.BUILD_VERSION, python).set(1)
