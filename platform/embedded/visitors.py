"""Visitors who sign up at the gateway at a steady rate, so that there is something to see."""

import asyncio
import secrets
import time
from collections import Counter

from embedded.observer import StepMissing, call

PER_SECOND = 3.0
MOST_WAITING = 40
"""Maximum number of requests at the same time: beyond it, visitors stay away."""


async def visit(gateway_url: str, seconds: float) -> str:
    """Send requests for a while, and say how many were accepted, once all have been answered."""
    statuses: Counter[int] = Counter()
    waiting: set[asyncio.Task[None]] = set()
    begun = time.monotonic()
    try:
        for number in range(int(seconds * PER_SECOND)):
            await asyncio.sleep(begun + number / PER_SECOND - time.monotonic())
            if len(waiting) < MOST_WAITING:
                task = asyncio.create_task(_sign_up(gateway_url, statuses))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
        if waiting:
            await asyncio.wait(waiting)
    finally:
        for task in waiting:
            task.cancel()
    failed = sum(count for status, count in statuses.items() if status != 201)
    return f"{statuses[201]} requests were accepted, {failed} failed"


async def _sign_up(gateway_url: str, statuses: Counter[int]) -> None:
    body = {"email": f"{secrets.token_hex(6)}@example.org", "name": "Ada Lovelace"}
    try:
        response = await call("POST", f"{gateway_url}/api/users", body, {})
        statuses[response.status] += 1
    except StepMissing:
        statuses[0] += 1
