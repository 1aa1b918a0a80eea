from typing import Any

from django.conf import settings
from django.core.management.commands import migrate
from django.db import connections

from chassis.database import session
from chassis.database.commands import OnServiceDatabase


class Command(OnServiceDatabase, migrate.Command):
    """`migrate` on the service's own database. With a pooler, it bypasses it and sets the defaults of the role."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the migrations."""
        session.bypass_pooler()
        super().handle(*args, **options)
        if settings.DATABASE_DIRECT and not (options["plan"] or options["check_unapplied"]):
            session.set_role_defaults(connections[options["database"]])
