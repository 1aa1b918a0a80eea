"""Functions that are called after a commit."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class WithoutDatabase:
    """A function for `transaction.on_commit` that does not use the database, so that the session need not be reset after it."""

    callback: Callable[[], object]

    def __call__(self) -> None:
        """Call the function."""
        self.callback()
