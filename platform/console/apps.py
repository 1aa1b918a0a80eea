from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """The console: `manage.py console`, one process on a developer's machine."""

    name = "console"
