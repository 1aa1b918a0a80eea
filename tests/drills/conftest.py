"""Fixtures of the drills: the system of the acceptance tests, and a line of figures that is printed at the end."""

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.fixtures import HARNESS, harness, pytest_runtest_makereport, raw, system, topics, visitors
from tests.acceptance.keyed_load import Load

Limit = Callable[..., None]

__all__ = ["HARNESS", "harness", "pytest_runtest_makereport", "raw", "system", "topics", "visitors"]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[dict[str, object]]:
    """The measurements of a drill, by name; floats are seconds. Printed as one line, also if the drill fails."""
    found: dict[str, object] = {}
    yield found
    title = (request.function.__doc__ or request.node.name).split(".")[0]
    shown = (
        f"{name} {value:.2f} s" if isinstance(value, float) else f"{name} {value}" for name, value in found.items()
    )
    print(f"\n{title}: {', '.join(shown)}")


@pytest.fixture
def load(topics) -> Iterator[Load]:
    """Events on `user.created`, about eighty per second, with enough keys that every partition always gets some."""
    load = Load(topics, keys=80, every=0.01)
    load.start()
    yield load
    load.end()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--report-times",
        action="store_true",
        help="report times that exceed their limit instead of failing, for a busy machine",
    )


@pytest.fixture
def limit(request: pytest.FixtureRequest, figures: dict[str, object]) -> Limit:
    """`limit(value, maximum)` fails the drill if the value exceeds the maximum, or only reports it (`--report-times`)."""

    def check(value: float, maximum: float, story: str = "") -> None:
        if value > maximum and request.config.getoption("--report-times"):
            figures["MISSED"] = f"its limit, {maximum:g}, by {value - maximum:.2f}"
            return
        assert value <= maximum, story

    return check
