"""gateway: the one door for clients; sends each request on to the service that owns its path."""

from settings.base import django_settings
from settings.env import GatewayEnvironment

env = GatewayEnvironment.read()
globals().update(django_settings("gateway", env))

# The proxy is ASGI only: `manage.py runserver` and `manage.py serve` run it on uvicorn.
WSGI_APPLICATION = None
