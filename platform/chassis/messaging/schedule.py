"""When records that failed are tried again: cheap retries when they are due, costly ones only in turn with everybody else."""

import heapq
import itertools

from chassis.messaging.records import Record

COSTLY_SECONDS = 0.25
"""A retry that is expected to take longer does not go before fresh records."""

REST_SECONDS = 2.0
"""So long nothing costly is tried after a costly try even if nobody else is there: a fetch or two show whether somebody is."""

Due = tuple[float, int, Record]


class Schedule:
    """Records by the time of their next try, in seconds of whatever clock the caller has.

    After a costly try the others have the loop for as long as it took, so no two costly tries follow each other while
    there is anything else to do.
    """

    def __init__(self) -> None:
        self._cheap: list[Due] = []
        self._costly: list[Due] = []
        self._tie = itertools.count()
        self._others_until = 0.0
        self._nobody_until = 0.0
        self._others_came = True

    def push(self, record: Record, at: float) -> None:
        """Have this record tried at `at` or later."""
        heap = self._costly if record.cost >= COSTLY_SECONDS else self._cheap
        heapq.heappush(heap, (at, next(self._tie), record))

    def took(self, seconds: float, now: float) -> None:
        """A try that all others had to wait for has taken so long."""
        if seconds >= COSTLY_SECONDS:
            self._others_until = max(self._others_until, now + seconds)
            self._nobody_until = now + min(seconds, REST_SECONDS)
            self._others_came = False

    def others_came(self) -> None:
        """Something else was there to be tried since the last costly try."""
        self._others_came = True

    def pop(self, now: float, *, alone: bool) -> Record | None:
        """The next record that is due and whose turn it is; `alone` says that there is nothing else to try just now."""
        if self._cheap and self._cheap[0][0] <= now:
            return heapq.heappop(self._cheap)[2]
        rested_at = self._rested_at() if alone else self._others_until
        if self._costly and max(self._costly[0][0], rested_at) <= now:
            return heapq.heappop(self._costly)[2]
        return None

    def next(self) -> float | None:
        """When there is something to pop, or None."""
        times = [self._cheap[0][0]] if self._cheap else []
        if self._costly:
            times.append(max(self._costly[0][0], self._rested_at()))
        return min(times, default=None)

    def costly(self) -> list[Record]:
        """The costly records that wait for their turn."""
        return [record for _, _, record in self._costly]

    def _rested_at(self) -> float:
        return self._others_until if self._others_came else self._nobody_until
