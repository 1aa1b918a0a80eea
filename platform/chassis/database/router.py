"""The database router: all models are in the database of the running service."""

from typing import Any

from django.conf import settings
from django.db.models import Model


class ServiceRouter:
    """Routes every query to the database alias of the service."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        """The alias of the running service."""
        return str(settings.SERVICE_DATABASE)

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        """The alias of the running service."""
        return str(settings.SERVICE_DATABASE)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Create a service's tables only in its own database; those of the chassis and of Django in each."""
        return app_label == db or app_label not in settings.DATABASES
