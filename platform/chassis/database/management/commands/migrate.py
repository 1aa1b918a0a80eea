from typing import Any

from django.conf import settings
from django.core.management.commands import migrate
from django.db import connections

from chassis.database import session
from chassis.database.commands import OnServiceDatabase


class Command(OnServiceDatabase, migrate.Command):
    """`migrate` on the service's own database, past a pooler; if there is one, it sets the role's parameters too."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate."""
        session.go_direct()
        super().handle(*args, **options)
        if settings.DATABASE_DIRECT and not (options["plan"] or options["check_unapplied"]):
            session.set_role_defaults(connections[options["database"]])
