"""Which database a model lives in: the one of the service that runs."""

from typing import Any

from django.conf import settings
from django.db.models import Model


class ServiceRouter:
    """Sends every query to the service's own database alias, and to no other."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        """The alias of the running service."""
        return str(settings.SERVICE_DATABASE)

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        """The alias of the running service."""
        return str(settings.SERVICE_DATABASE)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """A service's tables are made in its own database only; those of the chassis and of Django in each."""
        return app_label == db or app_label not in settings.DATABASES
