"""Django's settings of the monitor, a process of the platform: it has no service's code, no database and no pages."""

from settings.base import process_settings
from settings.environment import MonitorEnvironment

globals().update(process_settings(MonitorEnvironment.read()))

SERVICE_NAME = "monitor"
SERVICE_DATABASE = None
DATABASES: dict[str, object] = {}
DATABASE_DIRECT: dict[str, object] = {}
INSTALLED_APPS = ["chassis.observability", "chassis.health", "chassis.monitor"]
