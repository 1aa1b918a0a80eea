"""Runs: a service redrives or discards dead letters, and reports its progress on a connection that the console holds.

If the console stops, the connection is closed, and the service ends the run after its transaction.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from console import payloads
from console.failures import Away, NotFound
from console.sources.staff import Refused, Staff

KEPT = 50
"""Number of runs that are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a service is told to do, and by whom."""

    service: str
    action: str
    body: Mapping[str, Any]
    by: str
    expected: int = 0
    """How many dead letters were previewed."""


@dataclass(slots=True)
class Run:
    """A run. `state` is running, stopping, finished, stopped or failed; times in seconds since the epoch."""

    order: Order
    begun: float = field(default_factory=time.time)
    ended: float = 0.0
    state: str = "running"
    done: int = 0
    total: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    error: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in {"finished", "stopped", "failed"}

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return (self.ended or time.time()) - self.begun

    @property
    def rate(self) -> float:
        """Dead letters per second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def missed(self) -> int:
        """How many of the previewed dead letters were not unresolved any more; 0 until the run has finished."""
        if self.state != "finished":
            return 0
        return max(0, self.order.expected - self.done - len(self.refused) - len(self.forgotten))

    def note(self, line: Mapping[str, Any]) -> None:
        """Note a line of the report."""
        self.done = int(line.get("done") or self.done)
        self.total = int(line.get("total") or self.total)
        if line.get("finished"):
            self.refused = payloads.visible_answer(dict(line.get("refused") or {}))
            self.forgotten = list(line.get("forgotten") or ())
            self.error = payloads.visible(str(line.get("error") or ""))
            self.state = "failed" if self.error else "finished"


class Runs:
    """The runs of this console. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Run] = OrderedDict()

    def start(self, staff: Staff, order: Order) -> str:
        """Start a run, and return its id."""
        run, run_id = Run(order), secrets.token_hex(8)
        with self._lock:
            self._runs[run_id] = run
            while len(self._runs) > KEPT:
                self._runs.popitem(last=False)
        threading.Thread(target=_follow, args=[staff, run], name=f"run {run_id}", daemon=True).start()
        return run_id

    def get(self, run_id: str) -> Run:
        """A run. Raises NotFound."""
        with self._lock:
            if run_id not in self._runs:
                raise NotFound(
                    "This run is not known: the console forgets runs when it stops, and all but the last ones."
                )
            return self._runs[run_id]

    def newest(self) -> list[tuple[str, Run]]:
        """All runs, newest first."""
        with self._lock:
            return list(reversed(self._runs.items()))


def _follow(staff: Staff, run: Run) -> None:
    order = run.order
    try:
        path = f"dead-letters/{order.action}"
        with closing(staff.stream(order.service, path, order.body, operator=order.by)) as lines:
            for line in lines:
                run.note(line)
                if run.stopping.is_set() and not run.is_over:
                    run.state = "stopped"
                    break
        if not run.is_over:
            run.state, run.error = "failed", "the service ended the report before its end"
    except (Away, NotFound, Refused) as error:
        run.state, run.error = "failed", str(error)
    except Exception as error:
        run.state, run.error = "failed", f"the report cannot be read: {type(error).__name__}"
        raise
    finally:
        run.ended = time.time()


RUNS = Runs()
"""The runs of this process."""
