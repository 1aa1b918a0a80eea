import sys
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from console import access, system


class Command(BaseCommand):
    """`console`: serve the console on 127.0.0.1 until SIGTERM or Ctrl-C."""

    help = "Serve the console, which shows the running system in a browser. In development only."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the address, and serve."""
        from console.server import Server

        try:
            system.current()  # before the fork, so that an invalid setting ends this command
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        if not settings.CONSOLE_TOKEN.get_secret_value():
            self.stdout.write(f"The console: {access.url()}")
            self.stdout.flush()
        sys.argv[1:] = []  # gunicorn would read them
        Server(settings.CONSOLE_PORT).run()
