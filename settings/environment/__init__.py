"""The environment, read once and strictly: every variable of the system, its type, its bounds and its default.

`docs/settings.md` is these files as a table; a test holds them together. A wrong or missing variable ends the start with
one message that names all of them at once and never prints a value.
"""

from settings.environment.base import SECRETS_DIR, BadConfiguration, Environment
from settings.environment.database import Outbox
from settings.environment.services import ENVIRONMENTS, environment_of

__all__ = ["ENVIRONMENTS", "SECRETS_DIR", "BadConfiguration", "Environment", "Outbox", "environment_of"]
