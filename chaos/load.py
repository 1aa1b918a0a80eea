"""The clients: each POST is sent once, by a client that repeats nothing, and what came of it is written down."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field

import httpx2

AT_ONCE = 64
"""Most requests under way."""

PATIENCE_SECONDS = 10.0
"""How long a client waits for its answer."""

PRODUCT = "chaos"


@dataclass(frozen=True, slots=True)
class Wish:
    """A POST to be sent. `mark` tells its rows from all others: a user's email, an order's product."""

    kind: str
    mark: str
    gateway: int
    at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client knows afterwards: a status (0: none came), why not, and the id that it was given."""

    wish: Wish
    status: int
    cause: str = ""
    id: str = ""


@dataclass
class Load:
    """All POSTs of a run, spread evenly over its duration; later if the system is slower than that."""

    gateways: list[str]
    wishes: list[Wish]
    answers: list[Answer] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Send everything; returns with the last answer."""
        loop = asyncio.get_running_loop()
        began, under_way = loop.time(), asyncio.Semaphore(AT_ONCE)
        # A new connection for each: no request meets one that is just being closed, which would be the client's affair.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx2.AsyncClient(timeout=PATIENCE_SECONDS, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            for wish in self.wishes:
                await asyncio.sleep(max(0.0, began + wish.at - loop.time()))
                await under_way.acquire()
                task = group.create_task(self._send(client, wish))
                task.add_done_callback(lambda _: under_way.release())

    async def _send(self, client: httpx2.AsyncClient, wish: Wish) -> None:
        url = f"{self.gateways[wish.gateway]}/api/{wish.kind}s"
        try:
            # The client's own time limits are for each step; a client's patience is for the whole.
            async with asyncio.timeout(PATIENCE_SECONDS):
                response = await client.post(url, json=self._body(wish))
        except (TimeoutError, httpx2.TimeoutException):
            self.answers.append(Answer(wish, 0, f"no answer within {PATIENCE_SECONDS:g} s"))
        except httpx2.ConnectError:
            self.answers.append(Answer(wish, 0, "connection refused"))
        except httpx2.TransportError:
            self.answers.append(Answer(wish, 0, "connection broken off"))
        else:
            self._note(wish, response)

    def _note(self, wish: Wish, response: httpx2.Response) -> None:
        if response.status_code != 201:
            self.answers.append(Answer(wish, response.status_code, _reason(response)))
            return
        given = response.json()["id"]
        self.answers.append(Answer(wish, 201, id=given))
        if wish.kind == "user":
            self.users.append(given)

    def _body(self, wish: Wish) -> dict[str, object]:
        if wish.kind == "user":
            return {"email": wish.mark, "name": "Ada"}
        user = self.users[-1] if self.users else str(uuid.uuid4())
        items = [
            {"productId": wish.mark, "quantity": 2, "price": 19.99},
            {"productId": "tea", "quantity": 1, "price": 0.01},
        ]
        return {"userId": user, "items": items}


def plan(seed: int, *, users: int, orders: int, duration: float, gateways: list[str], first: int = 0) -> Load:
    """The load of a run: users and orders mixed, each to the one or the other gateway. Their numbers begin at `first`."""
    rng = random.Random(f"load {seed}")  # noqa: S311
    kinds = ["user"] * users + ["order"] * orders
    rng.shuffle(kinds)
    step = duration / len(kinds)
    wishes = [
        Wish(kind, mark(kind, first + number), rng.randrange(len(gateways)), number * step)
        for number, kind in enumerate(kinds)
    ]
    return Load(gateways, wishes)


def mark(kind: str, number: int) -> str:
    """What only this POST's rows carry."""
    return f"chaos-{number}@example.org" if kind == "user" else f"{PRODUCT}-{number}"


def _reason(response: httpx2.Response) -> str:
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or "")[:80]
    except ValueError:
        return "not a problem document"
