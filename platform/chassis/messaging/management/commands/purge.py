from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chassis.consumer import inbox_key
from chassis.outbox import retention


class Command(BaseCommand):
    """`purge`: delete expired rows now. The active relay does so by itself, every PURGE_EVERY_SECONDS."""

    help = "Delete sent and discarded outbox rows, inbox ids and idempotency keys that are older than their retention time."

    def handle(self, *args: Any, **options: Any) -> None:
        """Purge each table, and print the number of deleted rows. Raises CommandError in a service without a database."""
        if settings.SERVICE_DATABASE is None:
            raise CommandError(f"{settings.SERVICE_NAME} has no database: there is nothing to purge.")
        for expiry in retention.expiries():
            rows = retention.purge(expiry)
            self.stdout.write(f"{expiry.table}: {rows} rows older than {expiry.hours:g} h deleted")
        if inbox_key.replace():
            self.stdout.write("inbox: events are now identified by source, id and topic")
