"""Output for the terminal: coloured if the terminal supports it, plain text otherwise."""

import os
import signal
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

RESET, BOLD, DIM, RED, GREEN = "\033[0m", "\033[1m", "\033[2m", "\033[31m", "\033[32m"
NAME_COLOURS = ("\033[36m", "\033[33m", "\033[35m", "\033[32m", "\033[34m", "\033[96m", "\033[93m", "\033[95m")


def coloured() -> bool:
    """Whether to colour standard output. NO_COLOR and FORCE_COLOR are conventions that most programs follow."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def paint(text: str, *styles: str) -> str:
    """The text in these styles, if output is coloured."""
    return f"{''.join(styles)}{text}{RESET}" if coloured() else text


def say(text: str = "") -> None:
    """Print and flush one line. If the pipe is closed (`make up | head`), stop everything, as by Ctrl-C."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  for the rest of the process
        signal.raise_signal(signal.SIGTERM)


def print_error(text: str) -> None:
    """Print an error message to standard error."""
    print(paint(text, RED) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def stream(width: int) -> Callable[[str, str], None]:
    """A function that prints a log line prefixed with the name of its process, each name in its own colour."""
    palette = cycle(NAME_COLOURS)
    colours: dict[str, str] = {}

    def show(name: str, line: str) -> None:
        if name not in colours:
            colours[name] = next(palette)
        say(f"{paint(f'{name:<{width}} │', colours[name])} {line}")

    return show
