"""`manage.py runserver --settings=settings.gateway`: the gateway while it is being worked on."""

import os
from typing import Any

from django.core.management.commands import runserver

from gateway import server


class Command(runserver.Command):
    """Django's runserver, with its reloader, serving ASGI: the proxy is not there under WSGI."""

    addr: str
    port: str
    help = "Serve the gateway for development: on its own server, as in production, and again whenever a file changes."

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Serve until the reloader, or Ctrl-C, ends it."""
        if not options["skip_checks"]:
            self.check(display_num_errors=True)
        self.stdout.write(f"Serving the gateway at http://{self.addr}:{self.port}/ (Ctrl-C ends it)")
        try:
            server.serve(self.addr, int(self.port))
        except SystemExit as failure:
            # In the reloader's thread a SystemExit would end the thread, and nobody would be told.
            os._exit(int(failure.code or 0))
