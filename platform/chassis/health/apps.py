from django.apps import AppConfig


class HealthConfig(AppConfig):
    """Live and ready."""

    name = "chassis.health"
    label = "chassis_health"
