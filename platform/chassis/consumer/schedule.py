"""When failed records are tried again: cheap ones as soon as they are due, patient ones only in turn with fresh records."""

import heapq
import itertools

from chassis.kafka.records import Record

COSTLY_SECONDS = 0.25
"""A retry that is expected to take longer does not take precedence over fresh records."""

REST_SECONDS = 2.0
"""The minimum pause between two costly attempts if there are no other records: a few fetches show whether there are any."""

Due = tuple[float, int, Record]


class Schedule:
    """Records by the time of their next attempt, in seconds of the caller's clock.

    *Patient* records are those whose retry is costly, and those whose cause of failure only the success of others shows. No
    two of them are tried in succession while there are other records, and after a costly attempt the others have the loop
    for as long as it took.
    """

    def __init__(self) -> None:
        self._cheap: list[Due] = []
        self._patient: list[Due] = []
        self._tie = itertools.count()
        self._others_until = 0.0
        self._idle_until = 0.0
        self._others_ran = True

    def push(self, record: Record, at: float) -> None:
        """Schedule this record at `at` or later."""
        patient = record.held or record.cost >= COSTLY_SECONDS
        if record.held:
            self._others_ran = False
        heap = self._patient if patient else self._cheap
        heapq.heappush(heap, (at, next(self._tie), record))

    def attempt_took(self, seconds: float, now: float) -> None:
        """Note how long an attempt delayed all other records."""
        if seconds >= COSTLY_SECONDS:
            self._others_until = max(self._others_until, now + seconds)
            self._idle_until = now + min(seconds, REST_SECONDS)
            self._others_ran = False

    def others_ran(self) -> None:
        """Note that other records have been tried since the last costly attempt."""
        self._others_ran = True

    def pop(self, now: float, *, alone: bool) -> Record | None:
        """The next record that is due and whose turn it is; `alone`: there are no other records to try."""
        if self._cheap and self._cheap[0][0] <= now:
            return heapq.heappop(self._cheap)[2]
        if not alone and not self._others_ran:
            return None
        if self._patient and max(self._patient[0][0], self._rested_at()) <= now:
            return heapq.heappop(self._patient)[2]
        return None

    def next(self) -> float | None:
        """When `pop` will return a record, or None if it never will."""
        times = [self._cheap[0][0]] if self._cheap else []
        if self._patient:
            times.append(max(self._patient[0][0], self._rested_at()))
        return min(times, default=None)

    def patient(self) -> list[Record]:
        """The patient records."""
        return [record for _, _, record in self._patient]

    def _rested_at(self) -> float:
        return self._others_until if self._others_ran else self._idle_until
