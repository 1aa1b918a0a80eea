"""Functions that are called after a commit."""

from collections.abc import Callable


class WithoutDatabase:
    """A function for `transaction.on_commit` that does not use the database, so that the session need not be reset after it."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        # Django logs this name if the function raises.
        self.__qualname__ = getattr(callback, "__qualname__", repr(callback))

    def __call__(self) -> None:
        """Call the function."""
        self._callback()
