from django.core.management.commands import showmigrations

from chassis.database.commands import OnServiceDatabase


class Command(OnServiceDatabase, showmigrations.Command):
    """`showmigrations` on the service's own database."""
