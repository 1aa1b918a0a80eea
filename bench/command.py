"""The command line of one measurement: `python -m bench.reads --rounds 5`."""

import argparse
import inspect
from collections.abc import Callable, Mapping

from bench.live import running
from bench.table import Row, markdown


def run(measure: Callable[..., list[Row]], about: str | None, variables: Mapping[str, str] | None = None) -> None:
    """Start the system, call `measure` with it, and print the table.

    Each further parameter of `measure` is an option, whose type and default are those of its default value. `variables` are
    added to the environment of every process.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    for name, parameter in list(inspect.signature(measure).parameters.items())[1:]:
        default = parameter.default
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
    options = vars(parser.parse_args())
    with running(variables) as live:
        print(markdown(measure(live, **options)))
