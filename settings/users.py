"""Django's settings of users, from `users/service.py`."""

from settings.base import service_settings

globals().update(service_settings("users"))
