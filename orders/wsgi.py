"""WSGI entry point: `gunicorn orders.wsgi`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.orders")

import settings  # noqa: F401  puts platform/ on the import path
from chassis.http import wsgi

application = wsgi.application()
