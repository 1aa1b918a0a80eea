"""payments: pays for orders on `order.created`; keeps no state but Kafka's."""

from settings.base import django_settings
from settings.env import PaymentsEnvironment

env = PaymentsEnvironment.read()
globals().update(django_settings("payments", env))
