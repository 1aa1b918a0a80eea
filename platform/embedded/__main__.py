"""`python -m embedded demo|up|observe|engines`, which `make` runs."""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import Any

COMMANDS = {"demo": ("--open",), "up": ("--no-console",), "observe": (), "engines": ()}
"""The commands, and the options of each."""
INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal arrived before the event loop handled signals."""


def main() -> int:
    """Run one command. Returns the exit status: 0 only on success."""
    # A closed pipe must raise an error, not kill this process and leave the others running.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for signum in SIGNALS:
        signal.signal(signum, _interrupt)
    try:
        return _run(sys.argv[1:])
    except Interrupted:
        print("\ninterrupted before the start", file=sys.stderr, flush=True)
        # Exit immediately: a download in another thread must not delay it.
        os._exit(INTERRUPTED)


def _run(arguments: list[str]) -> int:
    # Imported after the signal handlers are set, since loading takes a while.
    from embedded.display import print_error
    from embedded.engines import prepare
    from embedded.errors import EmbeddedError

    name, *options = arguments or [""]
    if name not in COMMANDS or not set(options) <= set(COMMANDS[name]):
        known = "|".join(" ".join([command, *(f"[{option}]" for option in more)]) for command, more in COMMANDS.items())
        print_error(f"usage: python -m embedded {known}")
        return 2
    try:
        if name != "observe":  # which starts no engine
            prepare()
        command = importlib.import_module(f"embedded.{name}")
        return asyncio.run(_run_until_signalled(partial(command.run, *options)))
    except EmbeddedError as error:
        print_error(f"\n{name} failed: {error}")
        return 1


def _interrupt(signum: int, frame: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted


async def _run_until_signalled(run: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
    """Run the command, and cancel it at the first signal. Later signals are ignored, since it is already stopping."""
    task = asyncio.ensure_future(run())
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def cancel(signum: int) -> None:
        if not received:
            task.cancel()
        received.append(signum)

    for signum in SIGNALS:
        loop.add_signal_handler(signum, cancel, signum)
    try:
        return await task or 0
    except asyncio.CancelledError:
        print("\nstopped" if received else "\ncancelled", file=sys.stderr, flush=True)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
