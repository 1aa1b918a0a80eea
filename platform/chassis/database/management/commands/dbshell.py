from django.core.management.commands import dbshell

from chassis.database.commands import OnServiceDatabase


class Command(OnServiceDatabase, dbshell.Command):
    """`dbshell` on the service's own database."""
