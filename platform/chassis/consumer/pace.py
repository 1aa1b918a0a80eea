"""How many events are tried together, and for how long: all at once while that goes well, a few for a short time once it did not."""

SHORT_SECONDS = 1.0
"""The time limit of a careful try: so long the others wait for each event that hangs."""

CAREFUL_BATCH = 64
"""Most events in a careful try: so many are tried one by one when one of them hangs."""

BATCH_SHARE = 0.8
"""Of the time limit, for several events together. It costs none of them a try; so who is to blame is sought, and the others
get through, before they have stood still for one limit."""

SLOWER = 4.0
"""A limit that is too short for everybody becomes so many times longer, and is so many times what an event took."""

MISSES = 3
"""When so many events in a row hit the short limit, and none succeeds, it is too short for everybody."""

CALM_BATCHES = 10
"""After so many batches' worth of events without a hit, all is as before."""


class Pace:
    """Careful from the first time limit that is hit until enough events went well; knows no clock and does no I/O.

    A batch that hits its limit has cost all others that long, and nobody knows which of its events is to blame. So the next
    tries are short, with one event first, then with twice as many each time. An event that hits the short limit alone is only
    a suspect: it is set aside, and gets its full limit when the others have had their turn.
    """

    def __init__(self) -> None:
        self.careful = False
        self._size = 1
        self._short = SHORT_SECONDS
        self._misses = 0
        self._well = 0

    def size(self, most: int) -> int:
        """How many events may be tried together, of `most` at the best of times."""
        return min(self._size, most) if self.careful else most

    def limit(self, number: int, full: float) -> float:
        """How long a try of so many fresh events may take, in seconds, if their handler may run for `full`."""
        if self.careful:
            return min(self._short, full)
        return full if number == 1 else full * BATCH_SHARE

    def timed_out(self) -> None:
        """A try of several events hit its limit, or one event alone its full limit."""
        self.careful = True
        self._size = 1
        self._well = 0

    def missed(self) -> None:
        """One event alone hit the short limit."""
        self.timed_out()
        self._misses += 1
        if self._misses == MISSES:
            self._misses = 0
            self._short *= SLOWER

    def succeeded(self, number: int, seconds: float, most: int, *, suspects: bool) -> None:
        """A try of fresh events has gone well. `suspects` says whether some are still set aside."""
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
