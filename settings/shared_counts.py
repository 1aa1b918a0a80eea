"""The number of connections of each web process, in memory that all of them share.

Processes that listen on one socket accept what the system gives them: often one accepts all connections of a client that
connects in a burst, as the gateway does, and keeps them, while the others are idle.
"""

import mmap

SLOTS = 256
_FREE = -1


class SharedCounts:
    """A number for each process, which has a slot. Create it before the processes are forked."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, 4 * SLOTS)).cast("i")
        for slot in range(SLOTS):
            self._numbers[slot] = _FREE

    def set(self, slot: int, number: int) -> None:
        """Publish the number of a process."""
        self._numbers[slot] = number

    def free(self, slot: int) -> None:
        """The process of this slot has ended, or accepts no more."""
        self._numbers[slot] = _FREE

    def is_ahead(self, slot: int) -> bool:
        """Whether another process has a smaller number."""
        mine = self._numbers[slot]
        return any(_FREE < other < mine for other in self._numbers)
