"""Fixtures that replace those of `fixtures.py`: the system on a broker with Kafka's defaults, like a managed broker.

Only the replication of Kafka's internal topics differs, since there is a single broker.
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
    """Engines with migrated databases and created topics."""

    def engines(folder: Path) -> Engines:
        return Engines(PostgreSQL(folder / "postgres"), Kafka(folder / "kafka", stock=True))

    with prepared(request.config, "default-broker", engines) as harness:
        yield harness


@pytest.fixture(scope="module")
def topics(harness: Harness) -> Iterator[Topics]:
    """All records on the system's topics."""
    with Topics(harness.engines.kafka.bootstrap_servers) as topics:
        yield topics
