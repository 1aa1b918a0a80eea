"""A simulated payment provider. Its answer depends on the order's id alone, and takes a configurable time."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from django.conf import settings

from chassis.observability.bulk import observe_each
from payments import metrics

CONCURRENT_CALLS = 64


def accepts(order_id: UUID, success_rate: float) -> bool:
    """Whether the payment succeeds: always the same answer for the same order, and true for the share `success_rate`."""
    draw = int.from_bytes(hashlib.sha256(order_id.bytes).digest()[:8], "big") / 2**64
    return draw < success_rate


def charge_all(order_ids: Sequence[UUID]) -> list[bool]:
    """Charge for each order, and return whether each payment succeeded. The calls of a batch run concurrently."""
    if not settings.PAYMENT_LATENCY_SECONDS:
        answers = [_charge(order_id) for order_id in order_ids]
    else:
        with ThreadPoolExecutor(min(CONCURRENT_CALLS, len(order_ids))) as calls:
            answers = list(calls.map(_charge, order_ids))
    observe_each(metrics.PROVIDER_SECONDS, [seconds for _, seconds in answers])
    return [accepted for accepted, _ in answers]


def _charge(order_id: UUID) -> tuple[bool, float]:
    """Call the provider. Returns its answer, and how long that took in seconds."""
    started = time.perf_counter()
    if settings.PAYMENT_LATENCY_SECONDS:
        time.sleep(settings.PAYMENT_LATENCY_SECONDS)
    accepted = accepts(order_id, settings.PAYMENT_SUCCESS_RATE)
    return accepted, time.perf_counter() - started
