"""Fixtures of all tests: the settings of the service under test, selected by folder."""

from pathlib import Path

import pytest
from django.test import TransactionTestCase
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from services import SERVICES
from settings.base import PUBLISHERS
from tests import flush

TransactionTestCase._fixture_teardown = flush.empty

# How long an example takes depends on what else the machine does.
hypothesis_settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("untimed")

HERE = Path(__file__).parent
ALIASES = {service.name: service.name if service.database else None for service in SERVICES}


@pytest.fixture(autouse=True)
def service(request: pytest.FixtureRequest, settings) -> str:
    """The service under test: orders in `tests/orders/`; elsewhere users, or the one of `@pytest.mark.service`."""
    folder = Path(request.path).relative_to(HERE).parts[0]
    name = folder if folder in ALIASES else "users"
    if marker := request.node.get_closest_marker("service"):
        name = marker.args[0]
    settings.SERVICE_NAME = name
    settings.SERVICE_DATABASE = ALIASES[name]
    settings.EVENTS_PUBLISHER = PUBLISHERS[ALIASES[name] is not None]
    settings.ROOT_URLCONF = f"{name}.urls"
    return name
