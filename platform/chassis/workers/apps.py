from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """The long-lived processes beside the web: `manage.py consume` and `manage.py relay`."""

    name = "chassis.workers"
    label = "workers"
