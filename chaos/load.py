"""The clients: each POST is sent once, without retries, and its outcome is recorded."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field

import httpx2

MAX_CONCURRENT = 64
"""Maximum number of concurrent requests."""

TIMEOUT_SECONDS = 10.0
"""How long a client waits for a response."""

PRODUCT = "chaos"


@dataclass(frozen=True, slots=True)
class Request:
    """A POST to be sent. `mark` identifies its rows: the email of a user, the product of an order."""

    kind: str
    mark: str
    gateway: int
    at: float


@dataclass(frozen=True, slots=True)
class Response:
    """What the client received: the status (0 without a response), the cause of a failure, and the new id."""

    request: Request
    status: int
    cause: str = ""
    id: str = ""


@dataclass
class Load:
    """All POSTs of a run, spread evenly over its duration, or longer if the system is slower."""

    gateways: list[str]
    requests: list[Request]
    responses: list[Response] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Send everything, and return after the last response."""
        loop = asyncio.get_running_loop()
        began, slots = loop.time(), asyncio.Semaphore(MAX_CONCURRENT)
        # A new connection for each request, since reusing one that is being closed would be an error of the client.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            for request in self.requests:
                await asyncio.sleep(max(0.0, began + request.at - loop.time()))
                await slots.acquire()
                task = group.create_task(self._send(client, request))
                task.add_done_callback(lambda _: slots.release())

    async def _send(self, client: httpx2.AsyncClient, request: Request) -> None:
        url = f"{self.gateways[request.gateway]}/api/{request.kind}s"
        try:
            # The timeouts of httpx2 apply to each step; this one applies to the whole request.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await client.post(url, json=self._body(request))
        except (TimeoutError, httpx2.TimeoutException):
            self.responses.append(Response(request, 0, f"timed out after {TIMEOUT_SECONDS:g} s"))
        except httpx2.ConnectError:
            self.responses.append(Response(request, 0, "connection refused"))
        except httpx2.TransportError:
            self.responses.append(Response(request, 0, "connection closed"))
        else:
            self._record(request, response)

    def _record(self, request: Request, response: httpx2.Response) -> None:
        if response.status_code != 201:
            self.responses.append(Response(request, response.status_code, _reason(response)))
            return
        created_id = response.json()["id"]
        self.responses.append(Response(request, 201, id=created_id))
        if request.kind == "user":
            self.users.append(created_id)

    def _body(self, request: Request) -> dict[str, object]:
        if request.kind == "user":
            return {"email": request.mark, "name": "Ada"}
        user = self.users[-1] if self.users else str(uuid.uuid4())
        items = [
            {"productId": request.mark, "quantity": 2, "price": 19.99},
            {"productId": "tea", "quantity": 1, "price": 0.01},
        ]
        return {"userId": user, "items": items}


def plan(seed: int, *, users: int, orders: int, duration: float, gateways: list[str], first: int = 0) -> Load:
    """The load of a run: users and orders mixed, each sent to a random gateway. Their numbers start at `first`."""
    rng = random.Random(f"load {seed}")  # noqa: S311
    kinds = ["user"] * users + ["order"] * orders
    rng.shuffle(kinds)
    step = duration / len(kinds)
    requests = [
        Request(kind, mark(kind, first + number), rng.randrange(len(gateways)), number * step)
        for number, kind in enumerate(kinds)
    ]
    return Load(gateways, requests)


def mark(kind: str, number: int) -> str:
    """A value that identifies the rows of this POST."""
    return f"chaos-{number}@example.org" if kind == "user" else f"{PRODUCT}-{number}"


def _reason(response: httpx2.Response) -> str:
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or "")[:80]
    except ValueError:
        return "not a problem document"
