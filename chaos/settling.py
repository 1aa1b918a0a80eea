"""Waits until the system has nothing left to do, as observed from outside."""

import asyncio
import time

import psycopg
from confluent_kafka import KafkaException

from chaos import evidence
from chaos.engines import Engines
from chaos.topics import Reader
from embedded.topics import NotCaughtUp

WITHIN = 120.0
QUIET = 2
"""How often in a row it must appear settled: a relay that has just started may still send duplicates."""


async def settle(engines: Engines, reader: Reader, *, within: float = WITHIN) -> float:
    """Return the seconds until the system was settled, at most `within`. After that, the checks report what is stuck."""
    began = time.monotonic()
    quiet_since: float | None = None
    in_a_row = 0
    while time.monotonic() - began < within:
        if await asyncio.to_thread(_is_settled, engines, reader):
            quiet_since = quiet_since or time.monotonic()
            in_a_row += 1
            if in_a_row > QUIET:
                return quiet_since - began
        else:
            quiet_since, in_a_row = None, 0
        await asyncio.sleep(0.5)
    return within


def _is_settled(engines: Engines, reader: Reader) -> bool:
    try:
        if evidence.count_pending(engines):
            return False
        reader.catch_up(5)
        return not (reader.lag() or reader.open_transactions() or evidence.count_pending(engines))
    except (psycopg.Error, KafkaException, NotCaughtUp):
        return False
