from django.apps import AppConfig


class UsersConfig(AppConfig):
    """The users of the system."""

    name = "users"
