"""Names on the wire: the names of topics, consumer groups and transactional ids at the broker.

Code and documentation use the logical name of an event, such as `user.created`. At the broker every name begins with
KAFKA_PREFIX, so that several environments can share a cluster, separated by access rules on their prefixes.
"""

import re
from collections.abc import Collection
from typing import Protocol

from django.conf import settings

_DEAD_LETTERS = ".dlq"
"""The suffix of every dead-letter topic."""


_LEGAL = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z")
_INTERNAL = ("__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata")


def is_legal(topic: str) -> bool:
    """Whether a topic can have this name: it follows Kafka's rule, and is not an internal topic."""
    return _LEGAL.match(topic) is not None and topic not in _INTERNAL


class Named(Protocol):
    """An event or its class, which has a logical name."""

    @property
    def topic(self) -> str:
        """The logical name, such as `user.created`."""


def topic(event: Named) -> str:
    """The topic of an event."""
    return f"{settings.KAFKA_PREFIX}{event.topic}"


def group(service: str | None = None) -> str:
    """The consumer group of a service, by default the running one."""
    return f"{settings.KAFKA_PREFIX}{service or settings.SERVICE_NAME}"


def service(group: str) -> str:
    """The service that has this consumer group."""
    return group.removeprefix(settings.KAFKA_PREFIX)


def dead_letter_topic(topic: str, service: str | None = None) -> str:
    """The dead-letter topic of a service, by default the running one, for a topic, given by its name on the wire."""
    return f"{topic}.{service or settings.SERVICE_NAME}{_DEAD_LETTERS}"


def is_dead_letter_topic(topic: str) -> bool:
    """Whether this is the dead-letter topic of any service."""
    return topic.endswith(_DEAD_LETTERS)


def dead_lettered(topic: str) -> tuple[str, str]:
    """The topic whose events are in this dead-letter topic, and the consumer group that dead-lettered them."""
    source, _, service = topic.removesuffix(_DEAD_LETTERS).rpartition(".")
    return source, group(service)


def transactional_id(slot: str) -> str:
    """The transactional id of one of the service's workers.

    `slot` is unique among the workers of the service. Prefixes, services and slots contain no colon, so ids cannot collide.
    """
    return f"{group()}:{slot}"


def redrive_id() -> str:
    """The transactional id for redriving and discarding the service's dead letters: one run at a time."""
    return f"{group()}-deadletters"


def resolve(topic: str, known: Collection[str]) -> str:
    """Add the prefix to a topic that an operator named without it, if that is one of the `known` topics."""
    return (
        topic if topic in known else next((name for name in known if name == f"{settings.KAFKA_PREFIX}{topic}"), topic)
    )
