from django.contrib.auth.management.commands import changepassword

from chassis.database.commands import OnServiceDatabase


class Command(OnServiceDatabase, changepassword.Command):
    """`changepassword` on the service's own database."""
