"""The gateway's ASGI application: paths of services are answered by the proxy, all others by Django.

The proxy stands before Django, not in it: Django's ASGI handler moves every request to another thread and back, and
answers some hundreds of requests a second where the proxy passes on thousands.
"""

import os

import settings  # noqa: F401  puts platform/ on the import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.gateway")

from chassis.http import asgi

django = asgi.application()

from gateway.application import Gateway  # noqa: E402

application = Gateway(django)
