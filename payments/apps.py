from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """Pays for orders."""

    name = "payments"
