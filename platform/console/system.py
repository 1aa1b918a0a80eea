"""The one console of this process: its stores and sources, and the threads that fill them."""

import getpass
import threading
import time
from collections.abc import Callable
from functools import cache

from django.conf import settings

from console.failures import State
from console.sources.kafka import Topics
from console.sources.logs import LogFiles
from console.sources.processes import Processes, configured
from console.sources.staff import Staff
from console.stores.stories import Stories


class Console:
    """Everything that the pages show. `ended` is set when the process stops: streams must end then."""

    def __init__(self) -> None:
        self.stories = Stories(settings.CONSOLE_MEMORY_BYTES, settings.CONSOLE_STORIES)
        self.logs = LogFiles(settings.CONSOLE_LOGS, self.stories)
        self.processes = Processes(configured(settings.CONSOLE_PROCESSES))
        self.staff = Staff(self.processes, settings.OPERATOR_TOKEN.get_secret_value(), operator())
        self.topics = Topics()
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads. Call it after the fork: threads and Kafka clients do not survive one."""
        self._start("logs", self.logs.run)
        self._start("processes", self.processes.run)
        self._start("compress", self._compress)

    def stop(self) -> None:
        """Tell all threads, and all streams, to end; those that wait for a change get one."""
        self.ended.set()
        self.processes.stop()
        self.stories.wake()

    def away(self) -> list[State]:
        """The sources that cannot be read now."""
        sources = [self.logs.source, self.topics.source, *self.staff.sources.values()]
        return [source.state for source in sources if not source.state.up]

    def _start(self, name: str, run: Callable[[threading.Event], None]) -> None:
        thread = threading.Thread(target=run, args=[self.ended], name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _compress(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self.stories.spans.compress()
            ended.wait(1.0)


@cache
def current() -> Console:
    """The console of this process."""
    return Console()


def operator() -> str:
    """Who uses the console, for the services' records: the user of this machine."""
    try:
        return f"{getpass.getuser()} (console)"[:150]
    except (KeyError, OSError):
        return "console"


def since_text(moment: float) -> str:
    """How long ago a moment is, in words."""
    seconds = max(0, int(time.time() - moment))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"
