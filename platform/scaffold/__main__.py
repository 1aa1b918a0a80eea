"""`python -m scaffold` writes a new service; `make service NAME=stock [ON=order.created] [DATABASE=no]` calls it."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import django

ROOT = Path(__file__).resolve().parent.parent.parent
FAILED = 2
INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SUMMARY = """\
{name} consumes {topic} and publishes {thing}.created. Written:

  {name}/  tests/{name}/  settings/{name}.py

and generated from the declarations of all services:

  {generated}

docs/services.md explains each file. Next:

  make test ARGS="tests/{name} tests/contracts"
  make up
"""

EARLIER = """\
var/ contains the database of an earlier service of this name, whose tables may differ. Delete var/ to start over.
"""


def main() -> int:
    """Write the service that NAME, ON and DATABASE describe. Returns the exit status; unless it is 0, nothing was written."""
    for signum in SIGNALS:
        signal.signal(signum, _interrupt)
    from scaffold.errors import ScaffoldError

    try:
        with _one_at_a_time():
            _prepare()
            _write()
    except ScaffoldError as error:
        print(error, file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"{error}; nothing was written", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Lock the repository: two concurrent commands would choose the same port, and each would undo the other's files."""
    root = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(root, fcntl.LOCK_EX)
        yield
    finally:
        os.close(root)


def _prepare() -> None:
    """Set up Django with the apps of all services: their names are taken, and its template engine renders the files."""
    from scaffold.generated import offline

    os.environ.update(offline(ROOT), DJANGO_SETTINGS_MODULE="settings.test")
    import settings  # noqa: F401  puts platform/ on the import path

    django.setup()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    for other in SIGNALS:  # the written files are being removed
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def _write() -> None:
    from scaffold import generated, rendering, writing
    from scaffold.plan import Plan

    plan = Plan.of(os.environ, ROOT)
    with rendering.rendered(plan, ROOT) as files, writing.all_or_nothing(ROOT) as journal:
        journal.add(files)
        generated.write(plan.name, journal, ROOT)
    files_changed = "\n  ".join(map(str, journal.changed()))
    print(SUMMARY.format(name=plan.name, topic=plan.on.topic, thing=plan.thing, generated=files_changed))
    if plan.has_database and (ROOT / "var" / "postgres" / f"admin-of-{plan.name}").exists():  # `make up` leaves this
        print(EARLIER)


if __name__ == "__main__":
    sys.exit(main())
