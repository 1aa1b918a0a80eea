"""WSGI: `gunicorn orders.wsgi`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.orders")

import settings  # noqa: E402, F401  puts platform/ on the import path

from chassis.http import wsgi  # noqa: E402

application = wsgi.application()
