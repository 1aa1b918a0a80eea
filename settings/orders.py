"""Django's settings of orders, from `orders/service.py`."""

from settings.base import service_settings

globals().update(service_settings("orders"))
