import pytest

from tests.console.running import running


@pytest.fixture(scope="module")
def console():
    """A console of this module, which reads the Kafka of these tests."""
    with running() as console:
        yield console
