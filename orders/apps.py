from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """What users have ordered."""

    name = "orders"
