"""A pytest plugin: one real PostgreSQL and one real Kafka for the whole run.

Loaded by `-p tests.engines`, before Django's settings are read. Importing it sets the addresses in the environment; the
engines start with the session. Workers of pytest-xdist inherit both.
"""

import contextlib
import gc
import os
import signal

import pytest

from embedded import cache
from embedded.engines import Engines, choose, prepare
from embedded.errors import EmbeddedError

OWNER = "TEST_ENGINES_OWNER"

_stack = contextlib.ExitStack()


def _choose() -> Engines | None:
    if OWNER in os.environ:  # a worker of xdist, or a pytest inside a test: the engines are already running
        return None
    folder = _stack.enter_context(cache.temporary_folder("tests"))
    engines = choose(folder, may_create_databases=True)
    os.environ.update(engines.environment(), ENVIRONMENT="development")
    os.environ[OWNER] = str(os.getpid())
    return engines


# Collecting the tests creates objects that stay; Python would search them for garbage again and again.
gc.set_threshold(50_000, 20, 20)

# A shell makes what it runs in the background ignore Ctrl-C, and the processes that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests start some thousand processes: each would compile the project's modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ENGINES = _choose()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the engines, unless no test will run."""
    if ENGINES is None or session.config.option.collectonly:
        return
    _stack.callback(ENGINES.abandon)
    try:
        prepare()  # without the class archive, each of the suite's brokers takes twice as long to start
        ENGINES.start()
    except EmbeddedError as error:
        pytest.exit(f"the engines did not start: {error}", returncode=3)


def pytest_collection_finish() -> None:
    """Exclude all that has been loaded from garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Stop the engines and delete their data."""
    if ENGINES is not None:
        _stack.close()
        os.environ.pop(OWNER, None)


@pytest.fixture(scope="session")
def bootstrap_servers() -> str:
    """The addresses of the run's Kafka."""
    return os.environ["KAFKA_BOOTSTRAP_SERVERS"]
