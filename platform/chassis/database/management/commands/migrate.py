from django.core.management.commands import migrate

from chassis.database.commands import OnServiceDatabase


class Command(OnServiceDatabase, migrate.Command):
    """`migrate` on the service's own database."""
