"""The ASGI application of a service, or of the gateway's own pages."""

from typing import Any

import django


def application() -> Any:
    """Django, as an ASGI application."""
    django.setup(set_prefix=False)
    from chassis.http.requests import ASGIHandler  # REST framework wants the settings first

    return ASGIHandler()
