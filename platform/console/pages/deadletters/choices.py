"""What was chosen for a preview: kept here, so that the preview has an address to which the browser can go back."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from console.failures import NotFound

KEPT = 200
"""Number of choices that are remembered."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Dead letters of a service, by their ids or as a group, and the fields of the form."""

    service: str
    given: Mapping[str, Any]
    ids: tuple[str, ...]


class Choices:
    """The choices of this console. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choices: OrderedDict[str, Choice] = OrderedDict()

    def keep(self, choice: Choice) -> str:
        """Remember a choice, and return its id."""
        choice_id = secrets.token_hex(8)
        with self._lock:
            self._choices[choice_id] = choice
            while len(self._choices) > KEPT:
                self._choices.popitem(last=False)
        return choice_id

    def get(self, choice_id: str) -> Choice:
        """A choice. Raises NotFound."""
        with self._lock:
            if choice_id not in self._choices:
                raise NotFound(
                    "This preview is not known: the console forgets previews when it stops, and all but the last ones."
                )
            return self._choices[choice_id]


CHOICES = Choices()
"""The choices of this process."""
