from django.contrib.auth.management.commands import createsuperuser

from chassis.database.commands import OnServiceDatabase


class Command(OnServiceDatabase, createsuperuser.Command):
    """`createsuperuser` on the service's own database."""
