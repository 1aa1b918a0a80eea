"""Django's settings of payments, from `payments/service.py`."""

from settings.base import service_settings

globals().update(service_settings("payments"))
