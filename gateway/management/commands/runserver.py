"""`manage.py runserver --settings=settings.gateway`: the gateway, for development."""

import os
from typing import Any

from django.core.management.commands import runserver

from gateway import server


class Command(runserver.Command):
    """Django's runserver with its reloader, but with the gateway's own server, since the proxy does not run under WSGI."""

    addr: str
    port: str
    help = "Serve the gateway for development: with its own server, as in production, restarted when a file changes."

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Serve until the reloader or Ctrl-C stops it."""
        if not options["skip_checks"]:
            self.check(display_num_errors=True)
        self.stdout.write(f"Serving the gateway at http://{self.addr}:{self.port}/ (Ctrl-C to stop)")
        try:
            server.serve(self.addr, int(self.port))
        except SystemExit as failure:
            # In the reloader's thread SystemExit would end only the thread, silently.
            os._exit(int(failure.code or 0))
