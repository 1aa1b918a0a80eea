from django.apps import AppConfig


class UsersConfig(AppConfig):
    """Who uses the system."""

    name = "users"
