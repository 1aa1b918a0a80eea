"""`manage.py serve --settings=settings.gateway`: the gateway, as in production."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from gateway import server


class Command(BaseCommand):
    """Serves the gateway with one process and one event loop."""

    help = "Serve the gateway until SIGTERM, then complete the requests in progress."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the address."""
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (127.0.0.1).")
        parser.add_argument("--port", type=int, default=8000, help="Port to listen on (8000).")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        """Serve."""
        server.serve(host, port)
