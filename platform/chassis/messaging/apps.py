from django.apps import AppConfig


class MessagingConfig(AppConfig):
    """Outbox, relay, inbox, consumer and dead letters, which transport events between services."""

    name = "chassis.messaging"
    label = "messaging"
