"""gateway: the one door for clients; sends each request on to the service that owns its path."""

from settings.base import django_settings
from settings.env import GatewayEnvironment

env = GatewayEnvironment.read()
globals().update(django_settings("gateway", env))

# The pages are ASGI only: `manage.py runserver` and `manage.py serve` run them on the gateway's own server.
WSGI_APPLICATION = None

# No forms, no sessions: nothing that another site could make a browser do. With it a POST to a page would be a 403, not a 405.
MIDDLEWARE = [name for name in globals()["MIDDLEWARE"] if name != "django.middleware.csrf.CsrfViewMiddleware"]
SILENCED_SYSTEM_CHECKS = [*globals()["SILENCED_SYSTEM_CHECKS"], "security.W003"]
