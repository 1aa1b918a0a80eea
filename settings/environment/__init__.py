"""The environment, read once and strictly: every variable of the system, its type, its bounds and its default.

`docs/settings.md` is generated from these files; a test checks that it is up to date. If a variable is invalid or missing,
the process does not start: one message names all such variables and never shows a value.
"""

from settings.environment.base import SECRETS_DIR, BadConfiguration, Common, Environment
from settings.environment.console import ConsoleEnvironment
from settings.environment.database import Outbox
from settings.environment.monitor import MonitorEnvironment
from settings.environment.services import ENVIRONMENTS, environment_of

__all__ = [
    "ENVIRONMENTS",
    "SECRETS_DIR",
    "BadConfiguration",
    "Common",
    "ConsoleEnvironment",
    "Environment",
    "MonitorEnvironment",
    "Outbox",
    "environment_of",
]
