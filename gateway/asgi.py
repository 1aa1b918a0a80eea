"""The ASGI application of the gateway's own pages: docs, schema, health, metrics.

Requests for services never get here: the proxy handles them before Django (`application.py`). Django's ASGI handler moves
every request to another thread and back. It handles some hundreds of requests per second, the proxy thousands.
"""

import os

import settings  # noqa: F401  puts platform/ on the import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.gateway")

from chassis.http import asgi

application = asgi.application()
