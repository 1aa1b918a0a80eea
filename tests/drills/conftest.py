"""What every drill has: the system of the acceptance tests, and a line of figures that is printed at its end."""

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.fixtures import HARNESS, harness, pytest_runtest_makereport, raw, system, topics, visitors
from tests.acceptance.keyed_load import Load

Limit = Callable[..., None]

__all__ = ["HARNESS", "harness", "pytest_runtest_makereport", "raw", "system", "topics", "visitors"]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[dict[str, object]]:
    """What a drill has measured, by name: seconds where it is a float. Printed as one line, also when the drill fails."""
    found: dict[str, object] = {}
    yield found
    title = (request.function.__doc__ or request.node.name).split(".")[0]
    shown = (
        f"{name} {value:.2f} s" if isinstance(value, float) else f"{name} {value}" for name, value in found.items()
    )
    print(f"\n{title}: {', '.join(shown)}")


@pytest.fixture
def load(topics) -> Iterator[Load]:
    """Events on `user.created`, some eighty a second, under enough keys that every partition gets some all the time."""
    load = Load(topics, keys=80, every=0.01)
    load.start()
    yield load
    load.end()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--report-times",
        action="store_true",
        help="a time beyond its limit is said and fails nothing: for a machine that has other work to do",
    )


@pytest.fixture
def limit(request: pytest.FixtureRequest, figures: dict[str, object]) -> Limit:
    """`limit(value, most)` fails the drill when the value is more than that, or only says so (`--report-times`)."""

    def hold(value: float, most: float, story: str = "") -> None:
        if value > most and request.config.getoption("--report-times"):
            figures["MISSED"] = f"its limit, {most:g}, by {value - most:.2f}"
            return
        assert value <= most, story

    return hold
