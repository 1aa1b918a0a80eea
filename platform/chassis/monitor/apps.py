from django.apps import AppConfig


class MonitorConfig(AppConfig):
    """The monitor: `manage.py monitor`, one process for the whole system."""

    name = "chassis.monitor"
    label = "monitor"
