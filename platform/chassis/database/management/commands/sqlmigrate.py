from django.core.management.commands import sqlmigrate

from chassis.database.commands import OnServiceDatabase


class Command(OnServiceDatabase, sqlmigrate.Command):
    """`sqlmigrate` on the service's own database."""
