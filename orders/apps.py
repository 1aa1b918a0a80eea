from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """The orders of users."""

    name = "orders"
