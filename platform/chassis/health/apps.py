from django.apps import AppConfig


class HealthConfig(AppConfig):
    """Liveness and readiness."""

    name = "chassis.health"
    label = "chassis_health"
