"""When records that failed are tried again: some as soon as they are due, patient ones only in turn with everybody else."""

import heapq
import itertools

from chassis.kafka.records import Record

COSTLY_SECONDS = 0.25
"""A retry that is expected to take longer does not go before fresh records."""

REST_SECONDS = 2.0
"""So long nothing costly is tried after a costly try even if nobody else is there: a fetch or two show whether somebody is."""

Due = tuple[float, int, Record]


class Schedule:
    """Records by the time of their next try, in seconds of whatever clock the caller has.

    *Patient* are records whose retry is costly, and those of which only the success of others tells whose fault it is. So
    no two of these are tried one after the other while there is anything else to do, and after a costly try the others
    have the loop for as long as it took.
    """

    def __init__(self) -> None:
        self._cheap: list[Due] = []
        self._patient: list[Due] = []
        self._tie = itertools.count()
        self._others_until = 0.0
        self._nobody_until = 0.0
        self._others_came = True

    def push(self, record: Record, at: float) -> None:
        """Have this record tried at `at` or later."""
        patient = record.held or record.cost >= COSTLY_SECONDS
        if record.held:
            self._others_came = False
        heap = self._patient if patient else self._cheap
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
        if not alone and not self._others_came:
            return None
        if self._patient and max(self._patient[0][0], self._rested_at()) <= now:
            return heapq.heappop(self._patient)[2]
        return None

    def next(self) -> float | None:
        """When there is something to pop, or None."""
        times = [self._cheap[0][0]] if self._cheap else []
        if self._patient:
            times.append(max(self._patient[0][0], self._rested_at()))
        return min(times, default=None)

    def patient(self) -> list[Record]:
        """The records that wait for their turn."""
        return [record for _, _, record in self._patient]

    def _rested_at(self) -> float:
        return self._others_until if self._others_came else self._nobody_until
