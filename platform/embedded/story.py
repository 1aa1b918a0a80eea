"""The story of the system, played once through the gateway and checked at each step."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from embedded.observer import Observer, Response, StepMissing, call, until
from embedded.topics import SeenRecord

STEP_WITHIN = 30.0
# How long to wait for an effect after the second delivery was processed. It would appear within milliseconds.
QUIET = 0.5
CONSUMER_GROUP = "orders"


@dataclass(frozen=True)
class Step:
    """A step: when it happened, in seconds after the request, in which service, and the ids of the request and the trace."""

    since: float
    service: str
    what: str
    request_id: str
    trace_id: str


class Story:
    """Follows a new user to the paid (or failed) welcome order. `on_step` is called with each observed step."""

    def __init__(self, gateway_url: str, observer: Observer, on_step: Callable[[Step], None]) -> None:
        self._gateway = gateway_url
        self._observer = observer
        self._on_step = on_step
        self._start = 0.0
        self.request_id = ""
        self.trace_id = secrets.token_hex(16)
        self.user: dict[str, Any] = {}
        self.order: dict[str, Any] = {}
        self.event: SeenRecord | None = None

    async def play(self) -> None:
        """Play the story, from the request to the final status of the order. Raises StepMissing."""
        await self._register()
        user_id = self.user["id"]
        self.event = await self._published("user.created", "users", "published user.created", userId=user_id)
        order = await self._published("order.created", "orders", "created the welcome order", userId=user_id)
        order_id = order.payload["orderId"]
        payment = await self._published("payment.completed", "payments", "paid", orderId=order_id)
        await self._read_back(order_id, payment.payload["status"])

    async def deliver_duplicate(self) -> list[str]:
        """Send the same `user.created` again, and describe the outcome. Raises StepMissing if it had an effect."""
        assert self.event is not None
        before = await self._orders()
        offset = await asyncio.to_thread(self._observer.send_duplicate, self.event)
        await self._processed(self.event, offset)
        await asyncio.sleep(QUIET)
        after = await self._orders()
        user_id, order_id = self.user["id"], self.order["id"]
        counts = {
            "user.created": len(self._observer.of("user.created", userId=user_id)),
            "order.created": len(self._observer.of("order.created", userId=user_id)),
            "payment.completed": len(self._observer.of("payment.completed", orderId=order_id)),
        }
        if (
            counts != {"user.created": 2, "order.created": 1, "payment.completed": 1}
            or after != before
            or len(after) != 1
        ):
            raise StepMissing(f"the second delivery had an effect: {counts}, orders before {before}, after {after}")
        return [
            f"user.created was delivered {counts['user.created']} times: processed once, recognised as a duplicate once",
            f"order.created was published {counts['order.created']} time, payment.completed {counts['payment.completed']} time",
            f"the user still has {len(after)} order, unchanged",
        ]

    async def _register(self) -> None:
        email = f"ada.{secrets.token_hex(4)}@example.org"
        traceparent = f"00-{self.trace_id}-{secrets.token_hex(8)}-01"
        self._start = time.monotonic()
        url = f"{self._gateway}/api/users"
        response = await call("POST", url, {"email": email, "name": "Ada Lovelace"}, {"traceparent": traceparent})
        at = time.monotonic()
        _expect(response, 201, "POST /api/users")
        self.user = response.body
        self.request_id = response.headers.get("X-Request-Id", "")
        if not self.request_id:
            raise StepMissing("the response to POST /api/users has no X-Request-Id")
        self._step(at, "gateway", "POST /api/users → users: 201")

    async def _published(self, topic: str, service: str, what: str, **payload: str) -> SeenRecord:
        record = await until(
            lambda: next(iter(self._observer.of(topic, **payload)), None),
            within=STEP_WITHIN,
            missing=f"{topic} of {service}",
        )
        ids = (record.header("requestId"), record.header("traceId"))
        if ids != (self.request_id, self.trace_id):
            raise StepMissing(f"{topic} belongs to request and trace {ids}, not to {(self.request_id, self.trace_id)}")
        if topic == "order.created":
            what = f"{what}, published order.created"
        if topic == "payment.completed":
            what = f"payment {record.payload['status']}, published payment.completed"
        self._step(record.seen_at, service, what)
        return record

    async def _read_back(self, order_id: str, payment_status: str) -> None:
        url = f"{self._gateway}/api/orders/{order_id}"
        deadline = time.monotonic() + STEP_WITHIN
        while True:
            response = await call("GET", url)
            _expect(response, 200, f"GET /api/orders/{order_id}")
            if response.body["status"] != "pending":
                break
            if time.monotonic() > deadline:
                raise StepMissing(f"the order is still pending after {STEP_WITHIN:g} s")
            await asyncio.sleep(0.005)
        at = time.monotonic()
        expected = {"completed": "paid", "failed": "failed"}[payment_status]
        if response.body["status"] != expected:
            raise StepMissing(f"the payment {payment_status}, but the order is {response.body['status']}")
        self.order = response.body
        self._step(at, "orders", f"order is {expected}, according to GET /api/orders/{{id}} through the gateway")

    async def _processed(self, event: SeenRecord, offset: int) -> None:
        deadline = time.monotonic() + STEP_WITHIN
        while await asyncio.to_thread(self._observer.committed, CONSUMER_GROUP, event.topic, event.partition) <= offset:
            if time.monotonic() > deadline:
                raise StepMissing(f"orders did not process the second delivery within {STEP_WITHIN:g} s")
            await asyncio.sleep(0.05)

    async def _orders(self) -> list[dict[str, Any]]:
        response = await call("GET", f"{self._gateway}/api/orders?userId={self.user['id']}")
        _expect(response, 200, "GET /api/orders?userId=…")
        return list(response.body["results"])

    def _step(self, at: float, service: str, what: str) -> None:
        self._on_step(Step(at - self._start, service, what, self.request_id, self.trace_id))


def _expect(response: Response, status: int, request: str) -> None:
    if response.status != status:
        raise StepMissing(f"{request} returned {response.status}, not {status}: {response.body}")
