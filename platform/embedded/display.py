"""What the person at the terminal sees: coloured where that is wanted, plain text elsewhere."""

import os
import signal
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

RESET, BOLD, DIM, RED, GREEN = "\033[0m", "\033[1m", "\033[2m", "\033[31m", "\033[32m"
NAME_COLOURS = ("\033[36m", "\033[33m", "\033[35m", "\033[32m", "\033[34m", "\033[96m", "\033[93m", "\033[95m")


def coloured() -> bool:
    """Whether standard output is to be coloured; the variables are what most programs agree on."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def paint(text: str, *styles: str) -> str:
    """The text in these styles, where colours are wanted."""
    return f"{''.join(styles)}{text}{RESET}" if coloured() else text


def say(text: str = "") -> None:
    """One line, at once. When nobody reads any more (`make up | head`), everything is stopped, as by Ctrl-C."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  for as long as we live
        signal.raise_signal(signal.SIGTERM)


def complain(text: str) -> None:
    """Say what went wrong, on standard error."""
    print(paint(text, RED) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def stream(width: int) -> Callable[[str, str], None]:
    """A function that shows a line of a process's log with the process's name in front, each name in its own colour."""
    palette = cycle(NAME_COLOURS)
    colours: dict[str, str] = {}

    def show(name: str, line: str) -> None:
        if name not in colours:
            colours[name] = next(palette)
        say(f"{paint(f'{name:<{width}} │', colours[name])} {line}")

    return show
