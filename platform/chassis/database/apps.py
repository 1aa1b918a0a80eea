from django.apps import AppConfig
from django.db.backends.signals import connection_created


class DatabaseConfig(AppConfig):
    """One database per service: the router, session parameters, and commands that use the service's alias."""

    name = "chassis.database"
    label = "chassis_database"

    def ready(self) -> None:
        """Check the session of each new connection."""
        from chassis.database import session

        connection_created.connect(session.check, dispatch_uid="chassis.database.session")
