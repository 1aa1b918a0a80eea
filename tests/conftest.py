"""Fixtures of all tests: the settings of the service under test, selected by folder."""

from pathlib import Path

import pytest

from services import SERVICES
from settings.base import PUBLISHERS

HERE = Path(__file__).parent
ALIASES = {service.name: service.name if service.database else None for service in SERVICES}

# Tests that take minutes run first, so that no worker is left with one of them at the end. Those of the acceptance tests that
# run systems of their own come before the others, so that the system of the others does not run idle meanwhile.
OWN_SYSTEMS = ("monitor", "cluster", "default_broker", "dependencies", "prefix", "pgbouncer", "recreated", "traces")
LONG = (
    "scaffold/test_service.py",
    "docs/test_tutorial.py",
    "plans/",
    *(f"acceptance/test_{name}.py" for name in OWN_SYSTEMS),
    "chaos/",
    "acceptance/",
    "embedded/",
    "browser/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the long files first, in the order of LONG; xdist's `loadfile` distributes files in this order."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(HERE).as_posix()
        return next((place for place, prefix in enumerate(LONG) if path.startswith(prefix)), len(LONG))

    items.sort(key=rank)


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
