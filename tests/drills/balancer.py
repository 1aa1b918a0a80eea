"""Clients that reach the system as they would through a load balancer before two gateways."""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from embedded.runner import get

PROBE_SECONDS = 0.25
TIMEOUT_SECONDS = 20.0
ITEMS = [{"productId": "tea-pot", "quantity": 1, "price": 19.99}]


class Balancer(threading.Thread):
    """Knows which gateways are ready, by asking each as load balancers and Kubernetes do; nobody tells it of a restart."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(name="balancer", daemon=True)
        self._ports = [urlsplit(url).port or 80 for url in urls]
        self.ready: list[int] = []
        self._turn = 0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(PROBE_SECONDS):
            self.ready = [port for port in self._ports if get(port, "/health/ready")[0] == 200]

    def knows(self, url: str) -> bool:
        """Whether requests go there."""
        return (urlsplit(url).port or 80) in self.ready

    def in_turn(self) -> list[int]:
        """The ports of the ready gateways, another one first each time."""
        self._turn += 1
        ready = self.ready
        first = self._turn % max(1, len(ready))
        return ready[first:] + ready[:first]

    def end(self) -> None:
        self._stop_asked.set()
        self.join(10)


@dataclass(frozen=True)
class Answer:
    """What a client was answered: status 0, and why, where there was no answer."""

    what: str
    status: int
    body: dict
    seconds: float


class Visitor(threading.Thread):
    """Registers users, places orders and reads, one after the other, until told to stop.

    Each request goes on a connection of its own to a gateway that is ready, and to the other one only where no connection
    could be made, so that nothing was sent. Whatever else goes wrong, a reset or an answer that is not the one that was
    wanted, is a failed request: nothing is sent twice by this client, and it gives no Idempotency-Key.
    """

    def __init__(self, balancer: Balancer, *, every: float = 0.1) -> None:
        super().__init__(name="visitor", daemon=True)
        self._balancer = balancer
        self._every = every
        self._stop_asked = threading.Event()
        self.answers: list[Answer] = []

    def run(self) -> None:
        while not self._stop_asked.wait(self._every):
            user = self._ask("POST", "/api/users", {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
            self._ask("POST", "/api/orders", {"userId": str(uuid.uuid4()), "items": ITEMS})
            self._ask("GET", f"/api/users/{user.body.get('id')}")

    def end(self) -> list[Answer]:
        """Stop. Returns what it was answered."""
        self._stop_asked.set()
        self.join(2 * TIMEOUT_SECONDS)
        return self.answers

    def _ask(self, method: str, path: str, content: dict | None = None) -> Answer:
        began = time.monotonic()
        status, body = self._send(method, path, content)
        answer = Answer(f"{method} {path[:11].rstrip('/')}", status, body, time.monotonic() - began)
        self.answers.append(answer)
        return answer

    def _send(self, method: str, path: str, content: dict | None) -> tuple[int, dict]:
        for port in self._balancer.in_turn():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
            try:
                connection.connect()
            except OSError:
                continue
            try:
                body = None if content is None else json.dumps(content)
                connection.request(method, path, body, {"Content-Type": "application/json", "Connection": "close"})
                response = connection.getresponse()
                return response.status, json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                return 0, {"error": repr(error)}
            finally:
                connection.close()
        return 0, {"error": "no gateway is ready"}
