"""The system on a broker that has Kafka's own defaults, as a hosted one has: fixtures in place of those of `fixtures.py`.

The one thing that is not a default are the copies of Kafka's internal topics: there is one broker to keep them.
"""

from collections.abc import Iterator

import pytest

from embedded import cache
from embedded.engines import Engines
from embedded.kafka import Kafka
from embedded.postgres import PostgreSQL
from tests.acceptance.fixtures import STAND
from tests.acceptance.stand import Stand
from tests.acceptance.topics import Topics


@pytest.fixture(scope="module")
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    """Engines, with databases migrated and topics made."""
    shown = request.config.stash.get(STAND, None)
    with cache.throwaway("default-broker") as folder:
        engines = Engines(PostgreSQL(folder / "postgres"), Kafka(folder / "kafka", stock=True))
        engines.start()
        stand = Stand(engines, folder)
        try:
            stand.prepare()
            request.config.stash[STAND] = stand
            yield stand
        finally:
            request.config.stash[STAND] = shown
            stand.close()
            engines.abandon()


@pytest.fixture(scope="module")
def topics(stand: Stand) -> Iterator[Topics]:
    """All that is ever on the system's topics."""
    with Topics(stand.engines.kafka.bootstrap_servers) as topics:
        yield topics
