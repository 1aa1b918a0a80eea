"""The response to a scrape, for every kind of process: in the text format of Prometheus, or as OpenMetrics with exemplars."""

import gzip
from functools import cache
from typing import NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

from chassis.observability import multiprocess, sampling

COMPRESSION = 1
"""The fastest level: a scrape compresses to a tenth even so."""


class Scrape(NamedTuple):
    """The headers and the body of the response."""

    headers: dict[str, str]
    body: bytes


def scrape(accept: str, accept_encoding: str) -> Scrape:
    """The metrics that this process exports, or those of all web processes behind its port.

    `accept` and `accept_encoding` are the request's headers, empty if it has none.
    """
    sampling.take()
    encode, content_type = choose_encoder(accept)
    body = encode(_registry())
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if gzip_accepted(accept_encoding):
        body = gzip.compress(body, COMPRESSION)
        headers["Content-Encoding"] = "gzip"
    return Scrape(headers, body)


@cache
def _registry() -> CollectorRegistry:
    return multiprocess.registry() if multiprocess.is_enabled() else REGISTRY
