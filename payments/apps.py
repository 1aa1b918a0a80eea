from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """Who pays for orders."""

    name = "payments"
