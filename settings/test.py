"""For pytest alone: all services in one process, both databases side by side. No service ever runs like this.

`tests/conftest.py` says for each test which service it is about (SERVICE_NAME, SERVICE_DATABASE, ROOT_URLCONF).
"""

from settings import base
from settings.env import GatewayEnvironment, OrdersEnvironment, PaymentsEnvironment, UsersEnvironment


class TestEnvironment(UsersEnvironment, OrdersEnvironment, PaymentsEnvironment, GatewayEnvironment):
    """The variables of all services together."""


env = TestEnvironment.read()
_settings = base.django_settings("users", env, database_alias="users", database_url=env.users_database_url)
_settings["DATABASES"]["orders"] = base.database(str(env.orders_database_url), env, service="orders")
for _alias in ("users", "orders"):
    # Django makes each test database after that of `default`, unless told; there is none here.
    _settings["DATABASES"][_alias]["TEST"] = {"DEPENDENCIES": []}
_settings["INSTALLED_APPS"] = ["users", "orders", "payments", "gateway", *_settings["INSTALLED_APPS"][1:]]
globals().update(_settings)
