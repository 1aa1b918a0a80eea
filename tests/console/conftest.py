import uuid

import pytest

from tests.console.running import running


@pytest.fixture(scope="module")
def prefix() -> str:
    """The prefix of the topics and groups that the console of this module reads: others in the same Kafka are many."""
    return f"console-{uuid.uuid4().hex[:8]}."


@pytest.fixture(scope="module")
def console(prefix):
    """A console of this module, which reads the Kafka of these tests."""
    with running(KAFKA_PREFIX=prefix) as console:
        yield console
