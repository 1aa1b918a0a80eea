"""The system on a broker that has Kafka's own defaults, as a hosted one has: fixtures in place of those of `fixtures.py`.

The one thing that is not a default are the copies of Kafka's internal topics: there is one broker to keep them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.engines import Engines
from embedded.kafka import Kafka
from embedded.postgres import PostgreSQL
from tests.acceptance.fixtures import prepared
from tests.acceptance.harness import Harness
from tests.acceptance.topics import Topics


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Engines, with databases migrated and topics made."""

    def engines(folder: Path) -> Engines:
        return Engines(PostgreSQL(folder / "postgres"), Kafka(folder / "kafka", stock=True))

    with prepared(request.config, "default-broker", engines) as harness:
        yield harness


@pytest.fixture(scope="module")
def topics(harness: Harness) -> Iterator[Topics]:
    """All that is ever on the system's topics."""
    with Topics(harness.engines.kafka.bootstrap_servers) as topics:
        yield topics
