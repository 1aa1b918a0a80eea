from django.apps import AppConfig


class DatabaseConfig(AppConfig):
    """One service, one database: the router, and commands that know the service's alias."""

    name = "chassis.database"
    label = "chassis_database"
