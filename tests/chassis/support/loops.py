"""Runs the loop of a worker in a thread, like its command in a process, and stops it like a signal."""

import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from chassis.health.heartbeat import Heartbeat
from chassis.runtime.shutdown import Stop
from chassis.workers.management.commands.consume import Command


class Restarting:
    """The loop of `manage.py consume`, which starts over with new clients after it was fenced or stranded."""

    def __init__(self, stop: Stop, heartbeat: Heartbeat) -> None:
        self.run = lambda: Command._consume(stop, heartbeat)


class Running:
    """A loop in a thread."""

    def __init__(self, make: Any) -> None:
        self.stop, self.heartbeat = Stop(), Heartbeat("test")
        self.error: BaseException | None = None
        self.loop: Any = None
        self._make = make
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop = self._make(self.stop, self.heartbeat)
            self.loop.run()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    def end(self) -> None:
        self.stop.ask()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"it does not stop:\n{self._stack()}"
        if self.error:
            raise self.error

    def _stack(self) -> str:
        return "".join(traceback.format_stack(sys._current_frames().get(self._thread.ident or 0)))


@contextmanager
def running(make: Any) -> Iterator[Running]:
    loop = Running(make)
    try:
        yield loop
    finally:
        loop.end()
