"""The filters of the list of stories, as they are in its address."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.http import QueryDict

from console.sequence.build import BATCH
from console.stores.model import Summary
from console.stores.stories import Stories

STATES = ("ok", "rejected", "retried", "failed", "dead-lettered")
LONGEST = 200
"""Maximum number of characters of a value."""

_STATUS = re.compile(r"[1-5](?:\d\d|xx)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Filters:
    """What is wanted. An empty value wants everything; `problems` tell which values mean nothing, and are ignored."""

    state: str = ""
    status: str = ""
    service: str = ""
    route: str = ""
    slower: str = ""
    """A duration in milliseconds."""
    text: str = ""
    id: str = ""
    batches: str = ""
    """`1` if the traces of batches, which belong to several stories, are wanted too."""
    problems: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, query: QueryDict) -> "Filters":
        """The filters of a query."""
        given = {name: query.get(name, "").strip()[:LONGEST] for name in NAMES}
        problems = []
        if given["state"] and given["state"] not in STATES:
            problems.append(f"There is no state {given.pop('state')!r}.")
        if given["status"] and not _STATUS.fullmatch(given["status"]):
            problems.append(f"{given.pop('status')!r} is no status, such as 404 or 5xx.")
        if given["slower"] and not re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", given["slower"], re.ASCII):
            problems.append(f"{given.pop('slower')!r} is no number of milliseconds.")
        return cls(**given, problems=tuple(problems))

    @property
    def query(self) -> str:
        """They, as the query of an address."""
        return urlencode({name: value for name in NAMES if (value := getattr(self, name))})

    def wanted(self, stories: Stories) -> Callable[[Summary], bool]:
        """Whether a story is wanted. A text is also searched in the log lines that are in memory."""
        logged = _logged(stories, self.text) if self.text else frozenset()
        state, service, slower = self.state, self.service, float(self.slower or 0) * 1e6
        status, route = self.status.lower(), self.route.lower()
        text, id_ = self.text.lower(), self.id.lower()

        def is_wanted(story: Summary) -> bool:
            return (
                (bool(self.batches) or story.name != BATCH)
                and (not state or story.state == state)
                and (not status or _has_status(story.status, status))
                and (not service or service in story.services)
                and (not route or route in (story.route or story.name).lower())
                and (story.duration or story.ended - story.begun) >= slower
                and (not id_ or _has_id(story, id_))
                and (not text or story.trace_id in logged or story.request_id in logged or _has_text(story, text))
            )

        return is_wanted


NAMES = ("state", "status", "service", "route", "slower", "text", "id", "batches")


def _has_status(status: int, wanted: str) -> bool:
    return status // 100 == int(wanted[0]) if wanted.endswith("xx") else status == int(wanted)


def _has_id(story: Summary, wanted: str) -> bool:
    return any(one.lower().startswith(wanted) for one in (story.trace_id, story.request_id, *story.ids.split()))


def _has_text(story: Summary, wanted: str) -> bool:
    words = (
        story.name,
        story.route,
        story.error,
        story.trace_id,
        story.request_id,
        *story.services,
        *story.topics,
        story.ids,
    )
    return any(wanted in word.lower() for word in words)


def _logged(stories: Stories, text: str) -> frozenset[str]:
    """The traces and requests of the log lines with a text in them."""
    found = stories.lines.newest(5_000, text=text)
    return frozenset(id_ for line in found for id_ in (line.trace_id, line.request_id) if id_)


def shown(filters: Filters) -> Mapping[str, str]:
    """The values, for the form."""
    return {name: getattr(filters, name) for name in NAMES}
