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
from tests.acceptance.harness import Harness
from tests.acceptance.outages import Visitors
from tests.acceptance.topics import Topics

# A line for each request of the test's own client would hide the processes' lines behind it.
logging.getLogger("httpx2").setLevel(logging.WARNING)

HARNESS = pytest.StashKey[Harness | None]()


@contextmanager
def shown(config: pytest.Config, harness: Harness) -> Iterator[None]:
    """Inside the block, a test that fails shows the last lines of this system's processes."""
    before = config.stash.get(HARNESS, None)
    config.stash[HARNESS] = harness
    try:
        yield
    finally:
        config.stash[HARNESS] = before


@contextmanager
def prepared(
    config: pytest.Config, name: str, make: Callable[[Path], Engines] = choose, kind: Any = Harness
) -> Iterator[Any]:
    """A system on engines of its own, with databases migrated and topics made; `kind` is the class of it."""
    with cache.temporary_folder(name) as folder:
        engines = make(folder)
        engines.start()
        harness = kind(engines, folder)
        try:
            with shown(config, harness):
                harness.prepare()
                yield harness
        finally:
            harness.close()
            engines.abandon()


@pytest.fixture(scope="session")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """The engines, which tests here may stop and start, with databases migrated and topics made."""
    with prepared(request.config, "acceptance") as harness:
        yield harness


@pytest.fixture(scope="session")
def topics(harness: Harness) -> Iterator[Topics]:
    """All that is ever on the system's topics."""
    with Topics(harness.engines.kafka.bootstrap_servers) as topics:
        yield topics


@pytest.fixture
def raw(harness: Harness, topics: Topics) -> Iterator[Topics]:
    """payment.completed as it stands there, committed or not."""
    servers = harness.engines.kafka.bootstrap_servers
    with Topics(servers, ["payment.completed"], uncommitted=True) as raw:
        yield raw


@pytest.fixture
def system(harness: Harness) -> Harness:
    """Every process of the system, once, running and ready."""
    harness.whole()
    return harness


@pytest.fixture
def kafka(harness: Harness) -> Iterator[Kafka]:
    """The broker, which runs again when the test is over."""
    yield harness.engines.kafka
    if not harness.engines.kafka.members[0].child.alive:
        harness.engines.kafka.restart()


@pytest.fixture
def postgres(harness: Harness) -> Iterator[PostgreSQL]:
    """The server of both databases, which runs again when the test is over."""
    yield harness.engines.postgres
    if not harness.engines.postgres.child.alive:
        harness.engines.postgres.restart()


@pytest.fixture
def visitors(system: Harness) -> Iterator[Visitors]:
    """Clients who register users through the gateway all the time."""
    visitors = Visitors(system)
    visitors.start()
    yield visitors
    visitors.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that failed shows the last lines of every process."""
    report = yield
    harness = item.config.stash.get(HARNESS, None)
    if report.failed and harness is not None:
        report.sections += [(f"last lines of {name}", lines) for name, lines in harness.last_lines()]
    return report
