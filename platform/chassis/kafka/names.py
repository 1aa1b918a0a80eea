"""Names on the wire: what topics, consumer groups and transactional ids are called at the broker.

Code and documents speak of an event by its logical name, `user.created`. At the broker every name begins with KAFKA_PREFIX,
so that several environments can share one cluster, each closed in by access rules on its prefix.
"""

import re
from collections.abc import Collection
from typing import Protocol

from django.conf import settings

_DEAD_LETTERS = ".dlq"
"""How the name of every dead-letter topic ends."""


_LEGAL = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z")
_INTERNAL = ("__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata")


def is_legal(topic: str) -> bool:
    """Whether there can be a topic of this name that we may write to (Kafka's own rule, and not one of its internal topics)."""
    return _LEGAL.match(topic) is not None and topic not in _INTERNAL


class Named(Protocol):
    """An event, or its class: what has a logical name."""

    @property
    def topic(self) -> str:
        """The logical name, `user.created`."""


def topic(event: Named) -> str:
    """The topic of an event."""
    return f"{settings.KAFKA_PREFIX}{event.topic}"


def group(service: str | None = None) -> str:
    """The consumer group of a service, by default the running one."""
    return f"{settings.KAFKA_PREFIX}{service or settings.SERVICE_NAME}"


def service(group: str) -> str:
    """The service whose consumer group this is."""
    return group.removeprefix(settings.KAFKA_PREFIX)


def dead_letter_topic(topic: str, service: str | None = None) -> str:
    """Where a service, by default the running one, puts what it cannot handle of a topic, given by its name on the wire."""
    return f"{topic}.{service or settings.SERVICE_NAME}{_DEAD_LETTERS}"


def is_dead_letter_topic(topic: str) -> bool:
    """Whether this is the dead-letter topic of any service."""
    return topic.endswith(_DEAD_LETTERS)


def transactional_id(slot: str) -> str:
    """The transactional id of one of the service's workers.

    `slot` is unique among the workers of the service only. A colon is in no prefix, service or slot: no two of these meet.
    """
    return f"{group()}:{slot}"


def redrive_id() -> str:
    """The transactional id of whoever decides about the service's dead letters: one at a time."""
    return f"{group()}-deadletters"


def wanted(said: str, known: Collection[str]) -> str:
    """The topic among the `known` ones that a person means, who may leave out the prefix; what was said, if there is none."""
    return said if said in known else next((name for name in known if name == f"{settings.KAFKA_PREFIX}{said}"), said)
