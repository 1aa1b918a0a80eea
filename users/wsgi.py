"""WSGI entry point: `gunicorn users.wsgi`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.users")

import settings  # noqa: F401  puts platform/ on the import path
from chassis.http import wsgi

application = wsgi.application()
