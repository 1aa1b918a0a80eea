"""One set of engines and one running system for all acceptance tests of a worker; after the last of them it ends.

Each test gets all processes running, and uses its own ids.
"""

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

# The log lines of the test's own client would obscure those of the processes.
logging.getLogger("httpx2").setLevel(logging.WARNING)

HARNESS = pytest.StashKey[Harness | None]()


@contextmanager
def shown(config: pytest.Config, harness: Harness) -> Iterator[None]:
    """Within the block, a failing test shows the last log lines of this system's processes."""
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
    """A system on its own engines, with migrated databases and created topics; `kind` is its class."""
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


@pytest.fixture(scope="package")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """The engines, which tests can stop and start, with migrated databases and created topics."""
    with prepared(request.config, "acceptance") as harness:
        yield harness


@pytest.fixture(scope="package")
def topics(harness: Harness) -> Iterator[Topics]:
    """All records on the system's topics."""
    with Topics(harness.engines.kafka.bootstrap_servers) as topics:
        yield topics


@pytest.fixture
def raw(harness: Harness, topics: Topics) -> Iterator[Topics]:
    """The records of payment.completed, including uncommitted ones."""
    servers = harness.engines.kafka.bootstrap_servers
    with Topics(servers, ["payment.completed"], uncommitted=True) as raw:
        yield raw


@pytest.fixture
def system(harness: Harness) -> Harness:
    """One running and ready instance of every process."""
    harness.restore()
    return harness


@pytest.fixture
def kafka(harness: Harness, topics: Topics) -> Iterator[Kafka]:
    """The broker, for a test that interrupts it. Afterwards it is restarted if necessary, and `topics` has new clients."""
    yield harness.engines.kafka
    if not harness.engines.kafka.members[0].child.alive:
        harness.engines.kafka.restart()
    topics.reconnect()


@pytest.fixture
def postgres(harness: Harness) -> Iterator[PostgreSQL]:
    """The database server, which is restarted after the test if necessary."""
    yield harness.engines.postgres
    if not harness.engines.postgres.child.alive:
        harness.engines.postgres.restart()


@pytest.fixture
def visitors(system: Harness) -> Iterator[Visitors]:
    """Clients that create users through the gateway continuously."""
    visitors = Visitors(system)
    visitors.start()
    yield visitors
    visitors.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the last log lines of every process if the test failed."""
    report = yield
    harness = item.config.stash.get(HARNESS, None)
    if report.failed and harness is not None:
        report.sections += [(f"last lines of {name}", lines) for name, lines in harness.last_lines()]
    return report
