"""Clients that are replaced if they no longer get a response.

A client that asks for metadata while the cluster counts no broker as alive, as it does for a moment after all of its brokers were
frozen or restarted, forgets every broker, and never connects again (librdkafka 2.16, its issue 5301). It reports no error, and
only a new client recovers. See docs/adr/0065-clients-without-brokers.md.
"""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from confluent_kafka import KafkaException

from chassis.kafka.patience import UNANSWERED

RENEW_SECONDS = 10.0
"""How long a client may get no response until it is replaced. During an outage, this happens repeatedly."""

Client = TypeVar("Client")
T = TypeVar("T")


class Renewed(Generic[Client]):
    """A client that `make` creates when it is needed. Send requests with `ask`, or pass the result of each to `note`.

    A client that was replaced is kept until the next one is, which is longer than any request takes. A request whose client
    has been destroyed never ends.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._client: Client | None = None
        self._replaced: Client | None = None
        self._failing_since: float | None = None

    def get(self) -> Client:
        """The client; a new one after RENEW_SECONDS of failures."""
        if self._client is None:
            self._client = self._make()
        return self._client

    def ask(self, request: Callable[[Client], T]) -> T:
        """Send a request with the client, and note its result. Raises what the request raises."""
        try:
            answer = request(self.get())
        except Exception as error:
            self.note(error)
            raise
        self.note(None)
        return answer

    def note(self, error: BaseException | None) -> None:
        """Note the error of a request, if it had one. A refusal is a response too."""
        now = time.monotonic()
        if not (isinstance(error, KafkaException) and error.args[0].code() in UNANSWERED):
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > RENEW_SECONDS:
            self._replaced, self._client, self._failing_since = self._client, None, None
