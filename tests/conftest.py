"""What every test has: the service that it is about, chosen by the folder that it stands in."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALIASES = {"users": "users", "orders": "orders", "payments": None, "gateway": None}

SHARED = {"acceptance", "browser", "chaos", "gateway"}
"""Folders whose tests share a running system, or servers: pytest-xdist keeps each of them on one worker."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file, or of one folder of SHARED, run in one worker (`--dist loadgroup`)."""
    for item in items:
        path = Path(item.path).relative_to(HERE)
        item.add_marker(pytest.mark.xdist_group(path.parts[0] if path.parts[0] in SHARED else str(path)))


@pytest.fixture(autouse=True)
def service(request: pytest.FixtureRequest, settings) -> str:
    """The service of this test: `tests/orders/…` is about orders; anywhere else it is users, unless `@pytest.mark.service` says."""
    folder = Path(request.path).relative_to(HERE).parts[0]
    name = folder if folder in ALIASES else "users"
    if marker := request.node.get_closest_marker("service"):
        name = marker.args[0]
    settings.SERVICE_NAME = name
    settings.SERVICE_DATABASE = ALIASES[name]
    settings.ROOT_URLCONF = f"{name}.urls"
    return name
