"""Clients that use the system like through a load balancer in front of two gateways."""

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
    """Probes which gateways are ready, like a load balancer or Kubernetes. It is not informed of restarts."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(name="balancer", daemon=True)
        self._ports = [urlsplit(url).port or 80 for url in urls]
        self.ready: list[int] = []
        self._turn = 0
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(PROBE_SECONDS):
            self.ready = [port for port in self._ports if get(port, "/health/ready")[0] == 200]

    def uses(self, url: str) -> bool:
        """Whether requests are sent to this gateway."""
        return (urlsplit(url).port or 80) in self.ready

    def in_turn(self) -> list[int]:
        """The ports of the ready gateways, rotated at each call."""
        self._turn += 1
        ready = self.ready
        first = self._turn % max(1, len(ready))
        return ready[first:] + ready[:first]

    def end(self) -> None:
        self._stopping.set()
        self.join(10)


@dataclass(frozen=True)
class Response:
    """The response to a client; without one, status 0 and the error."""

    what: str
    status: int
    body: dict
    seconds: float


class Visitor(threading.Thread):
    """Creates users, places orders and reads, one after the other, until stopped.

    Each request uses a new connection to a ready gateway, or to the other one if no connection could be established, so that
    nothing was sent. Every other error, such as a reset or an unexpected status, is a failed request: this client never
    retries, and sends no Idempotency-Key.
    """

    def __init__(self, balancer: Balancer, *, every: float = 0.1) -> None:
        super().__init__(name="visitor", daemon=True)
        self._balancer = balancer
        self._every = every
        self._stopping = threading.Event()
        self.responses: list[Response] = []

    def run(self) -> None:
        while not self._stopping.wait(self._every):
            user = self._request("POST", "/api/users", {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
            self._request("POST", "/api/orders", {"userId": str(uuid.uuid4()), "items": ITEMS})
            self._request("GET", f"/api/users/{user.body.get('id')}")

    def end(self) -> list[Response]:
        """Stop, and return the responses."""
        self._stopping.set()
        self.join(2 * TIMEOUT_SECONDS)
        return self.responses

    def _request(self, method: str, path: str, content: dict | None = None) -> Response:
        began = time.monotonic()
        status, body = self._send(method, path, content)
        response = Response(f"{method} {path[:11].rstrip('/')}", status, body, time.monotonic() - began)
        self.responses.append(response)
        return response

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
