"""What every test has: the service that it is about, chosen by the folder that it stands in."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALIASES = {"users": "users", "orders": "orders", "payments": None, "gateway": None}

WHOLE_SYSTEMS = {"acceptance", "browser", "chaos", "embedded"}
"""Folders whose tests run many processes: one worker of pytest-xdist has them all, one after the other."""

SHARED_SERVERS = {"gateway"}
"""Folders whose tests share servers, and so a worker."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what must run in one worker (`--dist loadgroup`): at least the tests of one file."""
    for item in items:
        path = Path(item.path).relative_to(HERE)
        folder = path.parts[0]
        group = "systems" if folder in WHOLE_SYSTEMS else folder if folder in SHARED_SERVERS else str(path)
        item.add_marker(pytest.mark.xdist_group(group))


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
