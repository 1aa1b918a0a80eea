"""Old rows go while the relay runs: in a thread and a session of its own, so that no event waits for it."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from django.conf import settings
from django.db import DatabaseError, connections

from chassis.consumer import inbox_key
from chassis.outbox import retention
from chassis.runtime.background import in_background

log = structlog.get_logger(__name__)


@contextmanager
def housekeeping(is_our_turn: Callable[[], bool]) -> Iterator[None]:
    """Purge every PURGE_EVERY_SECONDS while the body runs, in one process of the service: where `is_our_turn`. 0 is never."""
    if not settings.PURGE_EVERY_SECONDS:
        yield
        return
    with in_background("housekeeping", partial(_keep_house, is_our_turn)):
        yield


def _keep_house(is_our_turn: Callable[[], bool], ended: threading.Event) -> None:
    # Not all relays of a restart at the same moment.
    every: float = settings.PURGE_EVERY_SECONDS
    wait = every * random.uniform(0.5, 1.0)  # noqa: S311
    while not ended.wait(wait):
        wait = every
        if is_our_turn():
            purge(ended.is_set)


def purge(stop: Callable[[], bool]) -> None:
    """Purge every table once. A database that fails is no reason to end: the next turn finds what is left."""
    try:
        gone = {expiry.table: retention.purge(expiry, stop=stop) for expiry in retention.expiries()}
        inbox_key.replace()
    except DatabaseError as error:
        log.warning("purge failed, will be tried again", reason=str(error).strip()[:300])
    else:
        if any(gone.values()):
            log.info("old rows purged", **gone)
    finally:
        connections[settings.SERVICE_DATABASE].close()
