from django.apps import AppConfig


class MessagingConfig(AppConfig):
    """Outbox, relay, inbox, consumer, dead letters: how events get from one service to the other."""

    name = "chassis.messaging"
    label = "messaging"
