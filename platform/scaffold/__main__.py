"""`python -m scaffold` writes a new service; `make service NAME=stock [ON=order.created] [DATABASE=no]` calls it."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import django

ROOT = Path(__file__).resolve().parent.parent.parent
INTERRUPTED = 130

MADE = """\
{name} is there: on {topic} it publishes {thing}.created. It consists of

  {folders}

and these files were written anew from the declarations of all services:

  {changed}

docs/services.md says what each file is. What now?

  make test ARGS="tests/{name} tests/contracts"   its tests
  make up                                         the system with it{where}
"""


def main() -> int:
    """Write the service that NAME, ON and DATABASE ask for. Returns the exit status; nothing is written unless it is 0."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    django.setup()  # the names of apps and tables, and the engine of the templates
    from scaffold.errors import ScaffoldError

    try:
        _write()
    except ScaffoldError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _write() -> None:
    from scaffold import generated, rendering, writing
    from scaffold.plan import Plan

    plan = Plan.of(os.environ, ROOT)
    with rendering.rendered(plan, ROOT) as files, writing.all_or_nothing(ROOT) as journal:
        journal.add(files)
        generated.write(plan, journal, ROOT)
