"""Django's settings of the gateway, from `gateway/service.py`."""

from settings.base import service_settings

globals().update(service_settings("gateway"))

# The gateway is an ASGI application only: `manage.py runserver` and `manage.py serve` run it on its own server.
WSGI_APPLICATION = None

# No forms, no sessions: nothing that another site could make a browser do. With it a POST to a page would be a 403, not a 405.
MIDDLEWARE = [name for name in globals()["MIDDLEWARE"] if name != "django.middleware.csrf.CsrfViewMiddleware"]
SILENCED_SYSTEM_CHECKS = [*globals()["SILENCED_SYSTEM_CHECKS"], "security.W003"]
