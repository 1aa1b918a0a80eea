"""The ASGI application of the gateway's own pages: docs, schema, health, metrics.

What belongs to a service never comes here: the proxy answers it before Django (`application.py`). Django's ASGI handler
moves every request to another thread and back, and answers some hundreds of requests a second where the proxy passes on
thousands.
"""

import os

import settings  # noqa: F401  puts platform/ on the import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.gateway")

from chassis.http import asgi

application = asgi.application()
