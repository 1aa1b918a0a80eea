"""The system on a broker that has Kafka's own defaults, as a hosted one has: fixtures in place of those of `fixtures.py`.

The one thing that is not a default are the copies of Kafka's internal topics: there is one broker to keep them.
"""

from collections.abc import Iterator

import pytest

from embedded import cache
from embedded.engines import Engines
from embedded.kafka import Kafka
from embedded.postgres import PostgreSQL
from tests.acceptance.fixtures import HARNESS
from tests.acceptance.harness import Harness
from tests.acceptance.topics import Topics


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Engines, with databases migrated and topics made."""
    shown = request.config.stash.get(HARNESS, None)
    with cache.throwaway("default-broker") as folder:
        engines = Engines(PostgreSQL(folder / "postgres"), Kafka(folder / "kafka", stock=True))
        engines.start()
        harness = Harness(engines, folder)
        try:
            harness.prepare()
            request.config.stash[HARNESS] = harness
            yield harness
        finally:
            request.config.stash[HARNESS] = shown
            harness.close()
            engines.abandon()


@pytest.fixture(scope="module")
def topics(harness: Harness) -> Iterator[Topics]:
    """All that is ever on the system's topics."""
    with Topics(harness.engines.kafka.bootstrap_servers) as topics:
        yield topics
