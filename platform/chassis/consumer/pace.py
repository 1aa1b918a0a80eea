"""How many events are tried together, and for how long: full batches normally, small ones with a short limit after a timeout."""

SHORT_SECONDS = 1.0
"""The time limit of a careful attempt, by which each event that hangs delays the others."""

CAREFUL_BATCH = 64
"""Maximum number of events in a careful attempt; they are tried one by one if one of them hangs."""

BATCH_SHARE = 0.8
"""The share of the time limit that a batch of several events has. Exceeding it counts no attempt, so the failing event is
identified, and the others are processed, before they have been delayed by one full limit."""

SLOWER = 4.0
"""The factor by which a limit that is too short for all events grows, and the ratio of the limit to the time of an event."""

MISSES = 3
"""If this many events in a row exceed the short limit and none succeeds, the limit is too short for all events."""

CALM_BATCHES = 10
"""After the events of this many full batches without a timeout, batches are full again."""


class Pace:
    """Careful from the first timeout until enough events have succeeded. Has no clock and does no I/O.

    A batch that exceeds its limit has delayed all others by it, and any of its events may be the cause. The next attempts are
    therefore short: first with one event, then with twice as many each time. An event that exceeds the short limit alone is
    only a suspect. It is set aside, and tried with its full limit after the others have had their turn.
    """

    def __init__(self) -> None:
        self.careful = False
        self._size = 1
        self._short = SHORT_SECONDS
        self._misses = 0
        self._well = 0

    def size(self, most: int) -> int:
        """How many events may be tried together; normally `most`."""
        return min(self._size, most) if self.careful else most

    def limit(self, number: int, full: float) -> float:
        """The time limit, in seconds, of an attempt with `number` fresh events whose handler has the limit `full`."""
        if self.careful:
            return min(self._short, full)
        return full if number == 1 else full * BATCH_SHARE

    def timed_out(self) -> None:
        """Several events exceeded their limit together, or one event alone its full limit."""
        self.careful = True
        self._size = 1
        self._well = 0

    def missed(self) -> None:
        """One event alone exceeded the short limit."""
        self.timed_out()
        self._misses += 1
        if self._misses == MISSES:
            self._misses = 0
            self._short *= SLOWER

    def succeeded(self, number: int, seconds: float, most: int, *, suspects: bool) -> None:
        """An attempt with fresh events succeeded. `suspects`: whether some events are still set aside."""
        if not self.careful:
            return
        self._misses = 0
        if number == 1:
            self._short = max(SHORT_SECONDS, SLOWER * seconds)
        if number >= self._size and SLOWER * seconds <= self._short:
            self._size = min(2 * self._size, CAREFUL_BATCH)
        self._well += number
        if self._well >= CALM_BATCHES * most and not suspects:
            self.careful = False
            self._short = SHORT_SECONDS
