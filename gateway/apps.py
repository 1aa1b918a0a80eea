from django.apps import AppConfig


class GatewayConfig(AppConfig):
    """The one door for clients."""

    name = "gateway"

    def ready(self) -> None:
        """Say what this process depends on, where it is the gateway."""
        from django.conf import settings

        if self.name == settings.SERVICE_NAME:
            from chassis.health import registry
            from gateway import health

            registry.declare(health.parts())
