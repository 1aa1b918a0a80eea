"""Purging old rows while the relay runs, in a separate thread and session, so that no event waits for it."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from django.conf import settings
from django.db import DatabaseError, connections

from chassis.consumer import inbox_key
from chassis.observability import metrics
from chassis.outbox import retention
from chassis.runtime.background import in_background

log = structlog.get_logger(__name__)


@contextmanager
def housekeeping(is_active: Callable[[], bool]) -> Iterator[None]:
    """Purge every PURGE_EVERY_SECONDS while the body runs, if `is_active` returns True. With 0, never purge."""
    if not settings.PURGE_EVERY_SECONDS:
        yield
        return
    # The relay has begun to purge: if it never succeeds, this becomes too old.
    metrics.PURGE_LAST_SUCCESS.set(time.time())
    with in_background("housekeeping", partial(_purge_periodically, is_active)):
        yield


def _purge_periodically(is_active: Callable[[], bool], ended: threading.Event) -> None:
    # The jitter prevents relays that were started together from purging at the same time.
    every: float = settings.PURGE_EVERY_SECONDS
    wait = every * random.uniform(0.5, 1.0)  # noqa: S311
    while not ended.wait(wait):
        wait = every
        if is_active():
            purge(ended.is_set)


def purge(stop: Callable[[], bool]) -> None:
    """Purge every table once. An error of the database is logged: the next purge deletes the rest."""
    try:
        gone = {expiry.table: retention.purge(expiry, stop=stop) for expiry in retention.expiries()}
        inbox_key.replace()
    except DatabaseError as error:
        log.warning("purge failed, will retry", reason=str(error).strip()[:300])
    else:
        metrics.PURGE_LAST_SUCCESS.set_to_current_time()
        if any(gone.values()):
            log.info("old rows purged", **gone)
    finally:
        connections[settings.SERVICE_DATABASE].close()
