"""ASGI entry point, for servers that support nothing else. WSGI is several times faster for these views."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.users")

import settings  # noqa: F401  puts platform/ on the import path
from chassis.http import asgi

application = asgi.application()
