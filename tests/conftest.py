"""What every test has: the service that it is about, chosen by the folder that it stands in."""

from pathlib import Path

import pytest

from services import SERVICES
from settings.base import PUBLISHERS

HERE = Path(__file__).parent
ALIASES = {service.name: service.name if service.database else None for service in SERVICES}

# What takes minutes: begun first, so that no worker is left alone with it in the end.
LONG = ("scaffold/test_service.py", "docs/test_tutorial.py", "acceptance/", "chaos/", "embedded/", "browser/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, in the order of LONG; xdist's `loadfile` hands files out in this order."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(HERE).as_posix()
        return next((place for place, prefix in enumerate(LONG) if path.startswith(prefix)), len(LONG))

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def service(request: pytest.FixtureRequest, settings) -> str:
    """The service of this test: `tests/orders/…` is about orders; anywhere else it is users, unless `@pytest.mark.service` says."""
    folder = Path(request.path).relative_to(HERE).parts[0]
    name = folder if folder in ALIASES else "users"
    if marker := request.node.get_closest_marker("service"):
        name = marker.args[0]
    settings.SERVICE_NAME = name
    settings.SERVICE_DATABASE = ALIASES[name]
    settings.EVENTS_PUBLISHER = PUBLISHERS[ALIASES[name] is not None]
    settings.ROOT_URLCONF = f"{name}.urls"
    return name
