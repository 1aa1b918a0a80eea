"""The ASGI application of a service, or of the gateway's own pages."""

from typing import Any

import django

from chassis.observability import startup


def application() -> Any:
    """Return Django's ASGI application."""
    startup.install()
    with startup.reported():
        django.setup(set_prefix=False)
        from chassis.http.requests import ASGIHandler  # REST framework needs the settings

        return ASGIHandler()
