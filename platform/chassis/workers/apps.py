from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """The workers: `manage.py consume` and `manage.py relay`."""

    name = "chassis.workers"
    label = "workers"
