from django.apps import AppConfig


class GatewayConfig(AppConfig):
    """The entry point for clients."""

    name = "gateway"

    def ready(self) -> None:
        """Declare the parts of readiness, if this process is the gateway."""
        from django.conf import settings

        if self.name == settings.SERVICE_NAME:
            from chassis.health import registry
            from gateway import health

            registry.declare(health.parts())
