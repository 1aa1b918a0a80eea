"""The story of the system, played once through the gateway and checked at each step; raises StepMissing where it is not so."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from embedded.observer import Answer, Observer, StepMissing, call, until
from embedded.topics import Seen

STEP_WITHIN = 30.0
# How long after the second delivery was processed an effect could still appear; it would appear within milliseconds.
QUIET = 0.5
CONSUMER_GROUP = "orders"


@dataclass(frozen=True)
class Step:
    """One thing that happened: when, seconds after the request; who did it; and what that request and trace were called."""

    since: float
    service: str
    what: str
    request_id: str
    trace_id: str


class Story:
    """A new user, followed to the paid (or refused) welcome order. `tell` is called with each step as it is seen."""

    def __init__(self, gateway_url: str, observer: Observer, tell: Callable[[Step], None]) -> None:
        self._gateway = gateway_url
        self._observer = observer
        self._tell = tell
        self._start = 0.0
        self.request_id = ""
        self.trace_id = secrets.token_hex(16)
        self.user: dict[str, Any] = {}
        self.order: dict[str, Any] = {}
        self.event: Seen | None = None

    async def play(self) -> None:
        """From the request to the order's end."""
        await self._register()
        user_id = self.user["id"]
        self.event = await self._published("user.created", "users", "published user.created", userId=user_id)
        order = await self._published("order.created", "orders", "made the welcome order", userId=user_id)
        order_id = order.payload["orderId"]
        payment = await self._published("payment.completed", "payments", "paid", orderId=order_id)
        await self._read_back(order_id, payment.payload["status"])

    async def deliver_again(self) -> list[str]:
        """Send the same `user.created` once more; raises StepMissing if anything came of it. Returns what was seen."""
        assert self.event is not None
        before = await self._orders()
        copy = await asyncio.to_thread(self._observer.send_again, self.event)
        await self._worked_off(self.event, copy)
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
        answer = await call("POST", url, {"email": email, "name": "Ada Lovelace"}, {"traceparent": traceparent})
        at = time.monotonic()
        _expect(answer, 201, "POST /api/users")
        self.user = answer.body
        self.request_id = answer.headers.get("X-Request-Id", "")
        if not self.request_id:
            raise StepMissing("the answer to POST /api/users has no X-Request-Id")
        self._step(at, "gateway", "POST /api/users → users: 201")

    async def _published(self, topic: str, service: str, what: str, **payload: str) -> Seen:
        record = await until(
            lambda: next(iter(self._observer.of(topic, **payload)), None),
            within=STEP_WITHIN,
            missing=f"{topic} of {service}",
        )
        said = (record.header("requestId"), record.header("traceId"))
        if said != (self.request_id, self.trace_id):
            raise StepMissing(f"{topic} belongs to request and trace {said}, not to {(self.request_id, self.trace_id)}")
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
            answer = await call("GET", url)
            _expect(answer, 200, f"GET /api/orders/{order_id}")
            if answer.body["status"] != "pending":
                break
            if time.monotonic() > deadline:
                raise StepMissing(
                    f"the order's end in orders did not come within {STEP_WITHIN:g} s: it is still pending"
                )
            await asyncio.sleep(0.005)
        at = time.monotonic()
        wanted = {"completed": "paid", "failed": "failed"}[payment_status]
        if answer.body["status"] != wanted:
            raise StepMissing(f"the payment {payment_status}, but the order is {answer.body['status']}")
        self.order = answer.body
        self._step(at, "orders", f"order is {wanted}: GET /api/orders/{{id}} through the gateway says so")

    async def _worked_off(self, event: Seen, offset: int) -> None:
        deadline = time.monotonic() + STEP_WITHIN
        while await asyncio.to_thread(self._observer.committed, CONSUMER_GROUP, event.topic, event.partition) <= offset:
            if time.monotonic() > deadline:
                raise StepMissing(f"orders did not process the second delivery within {STEP_WITHIN:g} s")
            await asyncio.sleep(0.05)

    async def _orders(self) -> list[dict[str, Any]]:
        answer = await call("GET", f"{self._gateway}/api/orders?userId={self.user['id']}")
        _expect(answer, 200, "GET /api/orders?userId=…")
        return list(answer.body["results"])

    def _step(self, at: float, service: str, what: str) -> None:
        self._tell(Step(at - self._start, service, what, self.request_id, self.trace_id))


def _expect(answer: Answer, status: int, request: str) -> None:
    if answer.status != status:
        raise StepMissing(f"{request} was answered with {answer.status}, not {status}: {answer.body}")
