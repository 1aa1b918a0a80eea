"""A background thread that runs as long as the loop of a long-lived command."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chassis.observability import tracing

ENDS_WITHIN_SECONDS = 2.0
"""How long the end of the body usually waits for the thread."""


@contextmanager
def in_background(
    name: str, run: Callable[[threading.Event], None], ends_within: float = ENDS_WITHIN_SECONDS
) -> Iterator[None]:
    """Call `run` in an untraced thread of this name while the body runs; its argument is an event that is set at the end.

    The end waits up to `ends_within` seconds for it.
    """
    ended = threading.Event()

    def work() -> None:
        with tracing.untraced():
            run(ended)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(ends_within)
