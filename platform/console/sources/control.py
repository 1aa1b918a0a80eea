"""A client of the control socket of `make up`, which lets processes and engines fail on request."""

import json
import socket
from collections.abc import Mapping
from typing import Any

from console.failures import Away, Source

SECONDS = 15.0
"""How long `make up` has for an answer; it may have to wait for Kafka."""
MOST_BYTES = 1_000_000


class Impossible(Exception):
    """What was asked for is not possible now; the message says why."""


class Control:
    """The control socket. Safe to use from several threads: every request has a connection of its own."""

    def __init__(self, path: str) -> None:
        self.offered = bool(path)
        """Whether the system can be broken at all: only `make up` and `make demo ARGS=--open` offer it."""
        self.source = Source("make up")
        self._path = path

    def ask(self, action: str, **more: Any) -> Any:
        """Do something, and return the result. Raises Away and Impossible."""
        if not self.offered:
            raise Away("make up", "this console was not started by it, or by make demo ARGS=--open")
        answer = self._exchange({"action": action, **more})
        if answer.get("ok") is not True:
            raise Impossible(str(answer.get("error") or "make up gave no reason"))
        return answer.get("result")

    def _exchange(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(SECONDS)
                connection.connect(self._path)
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as stream:
                    answer = json.loads(stream.readline(MOST_BYTES))
            if not isinstance(answer, dict):
                raise ValueError("it did not answer")
        except (OSError, ValueError) as error:
            raise self.source.failed(error) from None
        self.source.answered()
        return answer
