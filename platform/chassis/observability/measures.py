"""A service's own gauges that need its database: the relay's clock of gauges calls the functions registered here."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings

Measure = Callable[[Any], None]
F = TypeVar("F", bound=Measure)

_measures: dict[tuple[str, str], Measure] = {}
"""By module and name: in tests, several services are in one process."""


def measured_by_relay(function: F) -> F:
    """Register a function that the service's relay calls every five seconds, in a thread of its own; for its `metrics.py`.

    The argument is a cursor of the service's database. The function sets gauges (`on=("relay",)`), and should run statements
    of bounded cost: an index, and a LIMIT. An error of the database is ignored, and the gauges keep their values.
    """
    _measures[function.__module__, function.__name__] = function
    return function


def measures() -> list[Measure]:
    """The functions that the running service has registered."""
    return [one for (module, _), one in _measures.items() if module.partition(".")[0] == settings.SERVICE_NAME]
