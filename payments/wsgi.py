"""WSGI entry point: `gunicorn payments.wsgi`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.payments")

import settings  # noqa: F401  puts platform/ on the import path
from chassis.http import wsgi

application = wsgi.application()
