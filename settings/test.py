"""Settings for pytest only: all services in one process, with all databases. No service ever runs like this.

For each test, `tests/conftest.py` selects the service under test (SERVICE_NAME, SERVICE_DATABASE, ROOT_URLCONF).
"""

from typing import cast

from pydantic import create_model

from services import BEHIND_GATEWAY, SERVICES, WITH_DATABASE
from settings import base
from settings.environment import ENVIRONMENTS, ConsoleEnvironment, Environment

# The gateway is last: if it has a different default, the default of the others applies here.
NAMES = (*(service.name for service in BEHIND_GATEWAY), *(one.name for one in SERVICES if one.edge))

TestEnvironment = cast(
    type[Environment],
    create_model("TestEnvironment", __base__=(*(ENVIRONMENTS[name] for name in NAMES), ConsoleEnvironment)),
)
"""The variables of all services, and of the console, together."""

# The workers of a test run share the processors with the systems that they start. Connecting may take long, and so may the time
# between two statements.
PATIENCE = {"database_connect_timeout_seconds": 60, "database_idle_transaction_seconds": 60.0}

env: Environment = TestEnvironment.read().model_copy(update=PATIENCE)
_settings = base.django_settings(WITH_DATABASE[0], env)
for _service in WITH_DATABASE:
    _settings["DATABASES"] |= base.database_settings(_service, env)["DATABASES"]
    # By default, Django creates each test database after that of `default`, which does not exist here.
    _settings["DATABASES"][_service.name]["TEST"] = {"DEPENDENCIES": []}
_settings["INSTALLED_APPS"] = [*NAMES, *_settings["INSTALLED_APPS"][1:], "chassis.monitor", "console"]
# As Django advises for tests: a hash that is slow by design would be most of the time of the admin's tests.
_settings["PASSWORD_HASHERS"] = ["django.contrib.auth.hashers.MD5PasswordHasher"]
globals().update(_settings)
