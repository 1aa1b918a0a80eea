"""One set of engines and one running system for all acceptance tests; each test finds it whole, and looks at its own ids only."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from embedded import cache
from embedded.engines import Engines, choose
from embedded.kafka import Kafka
from embedded.postgres import PostgreSQL
from tests.acceptance.outages import Visitors
from tests.acceptance.stand import Stand
from tests.acceptance.topics import Topics

# A line for each request of the test's own client would hide the processes' lines behind it.
logging.getLogger("httpx2").setLevel(logging.WARNING)

STAND = pytest.StashKey[Stand | None]()


@contextmanager
def shown(config: pytest.Config, stand: Stand) -> Iterator[None]:
    """Inside the block, a test that fails shows the last lines of this system's processes."""
    before = config.stash.get(STAND, None)
    config.stash[STAND] = stand
    try:
        yield
    finally:
        config.stash[STAND] = before


@contextmanager
def prepared(
    config: pytest.Config, name: str, make: Callable[[Path], Engines] = choose, kind: Any = Stand
) -> Iterator[Any]:
    """A system on engines of its own, with databases migrated and topics made; `kind` is the class of it."""
    with cache.throwaway(name) as folder:
        engines = make(folder)
        engines.start()
        stand = kind(engines, folder)
        try:
            with shown(config, stand):
                stand.prepare()
                yield stand
        finally:
            stand.close()
            engines.abandon()


@pytest.fixture(scope="session")
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    """The engines, which tests here may stop and start, with databases migrated and topics made."""
    with prepared(request.config, "acceptance") as stand:
        yield stand


@pytest.fixture(scope="session")
def topics(stand: Stand) -> Iterator[Topics]:
    """All that is ever on the system's topics."""
    with Topics(stand.engines.kafka.bootstrap_servers) as topics:
        yield topics


@pytest.fixture
def raw(stand: Stand, topics: Topics) -> Iterator[Topics]:
    """payment.completed as it stands there, committed or not."""
    servers = stand.engines.kafka.bootstrap_servers
    with Topics(servers, ["payment.completed"], uncommitted=True) as raw:
        yield raw


@pytest.fixture
def system(stand: Stand) -> Stand:
    """Every process of the system, once, running and ready."""
    stand.whole()
    return stand


@pytest.fixture
def kafka(stand: Stand) -> Iterator[Kafka]:
    """The broker, which runs again when the test is over."""
    yield stand.engines.kafka
    if not stand.engines.kafka.members[0].child.alive:
        stand.engines.kafka.restart()


@pytest.fixture
def postgres(stand: Stand) -> Iterator[PostgreSQL]:
    """The server of both databases, which runs again when the test is over."""
    yield stand.engines.postgres
    if not stand.engines.postgres.child.alive:
        stand.engines.postgres.restart()


@pytest.fixture
def visitors(system: Stand) -> Iterator[Visitors]:
    """Clients who register users through the gateway all the time."""
    visitors = Visitors(system)
    visitors.start()
    yield visitors
    visitors.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that failed shows the last lines of every process."""
    report = yield
    stand = item.config.stash.get(STAND, None)
    if report.failed and stand is not None:
        report.sections += [(f"last lines of {name}", lines) for name, lines in stand.last_lines()]
    return report
