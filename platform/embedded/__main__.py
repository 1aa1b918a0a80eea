"""`python -m embedded demo|up|engines`; `make` calls it."""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

COMMANDS = ("demo", "up", "engines")
INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked us to stop."""


def main() -> int:
    """Run one command. Returns the exit status: 0 only if all was well."""
    # A pipe that nobody reads any more is an error of the write, not the end of us with everything left running.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for signum in SIGNALS:
        signal.signal(signum, _interrupt)
    try:
        return _run(sys.argv[1:])
    except Interrupted:
        print("\ninterrupted before it began", file=sys.stderr, flush=True)
        # At once: a download in another thread must not hold us up.
        os._exit(INTERRUPTED)


def _run(arguments: list[str]) -> int:
    # Imported now that signals are handled: loading takes a moment.
    from embedded.display import complain
    from embedded.engines import prepare
    from embedded.errors import EmbeddedError

    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        complain(f"usage: python -m embedded {'|'.join(COMMANDS)}")
        return 2
    try:
        prepare()
        command = importlib.import_module(f"embedded.{arguments[0]}")
        return asyncio.run(_until_asked_to_stop(command.run))
    except EmbeddedError as error:
        complain(f"\n{arguments[0]} failed: {error}")
        return 1


def _interrupt(signum: int, frame: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted


async def _until_asked_to_stop(run: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
    """Run, and cancel it at the first signal; later ones change nothing, as the end is already under way."""
    task = asyncio.ensure_future(run())
    loop = asyncio.get_running_loop()
    asked: list[int] = []

    def ask(signum: int) -> None:
        if not asked:
            task.cancel()
        asked.append(signum)

    for signum in SIGNALS:
        loop.add_signal_handler(signum, ask, signum)
    try:
        return await task or 0
    except asyncio.CancelledError:
        print("\nstopped" if asked else "\ncancelled", file=sys.stderr, flush=True)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
