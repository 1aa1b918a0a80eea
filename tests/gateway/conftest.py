"""One gateway for all tests, in front of servers whose behaviour the tests define."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gateway.clients import Gateway, free_port, running
from tests.gateway.upstreams import Upstream

MAX_BODY = 300_000
TIMEOUT = 4.0


@pytest.fixture(scope="session")
def _users() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="session")
def _orders() -> Iterator[list[Upstream]]:
    replicas = [Upstream(), Upstream()]
    yield replicas
    for replica in replicas:
        replica.stop()


@pytest.fixture(scope="session")
def gateway(_users: Upstream, _orders: list[Upstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with one replica of users, two of orders, and none of payments."""
    with running(
        tmp_path_factory.mktemp("gateway"),
        USERS_URL=_users.url,
        ORDERS_URL=",".join(replica.url for replica in _orders),
        PAYMENTS_URL=f"http://127.0.0.1:{free_port()}",
        GATEWAY_TIMEOUT_SECONDS=str(TIMEOUT),
        GATEWAY_CONNECT_TIMEOUT_SECONDS="1.0",
        GATEWAY_MAX_BODY_BYTES=str(MAX_BODY),
    ) as gateway:
        yield gateway


@pytest.fixture
def users(_users: Upstream) -> Upstream:
    """The replica of users; by default it echoes."""
    _users.reset()
    return _users


@pytest.fixture
def orders(_orders: list[Upstream]) -> list[Upstream]:
    """The two replicas of orders."""
    for replica in _orders:
        replica.reset()
    return _orders


@pytest.fixture
def another_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts further gateways with other settings."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **variables: stack.enter_context(running(tmp_path, **variables))
