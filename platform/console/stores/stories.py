"""The stories: a summary of each, and where its spans and log lines are."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from sys import intern
from typing import Any

from chassis.story.facts import SANE
from console.stores import otlp
from console.stores.lines import Lines
from console.stores.model import Line, Span, Summary
from console.stores.otlp import LONGEST_NAME
from console.stores.spans import Spans

SHARE_OF_SPANS = 2 / 3
"""The part of the memory that is for spans; the rest is for log lines."""
SHARE_OF_BARE = 1 / 4
"""The part of the stories that may have no spans and no failure: only the lines of their requests are known."""
MOST_NAMES = 24
LONGEST_IDS = 1_000
"""Maximum number of services and topics of a story, and maximum length of its ids; a trace may have any number of them."""
MOST_LINKED = 64
"""Maximum number of other traces that are known to be linked to one."""
LINKS_OF_A_STORY = 8
"""How many links there may be per story, on average."""


class Stories:
    """All that is kept of stories. Safe to use from several threads."""

    def __init__(self, most_bytes: int, most_stories: int) -> None:
        self.spans = Spans(int(most_bytes * SHARE_OF_SPANS))
        self.lines = Lines(int(most_bytes * (1 - SHARE_OF_SPANS)))
        self._most = most_stories
        self._change = threading.Condition()
        self._summaries: OrderedDict[str, Summary] = OrderedDict()
        self._by_request: dict[str, str] = {}
        self._linked: dict[str, set[str]] = {}
        self._links = 0
        self._bare: OrderedDict[str, None] = OrderedDict()
        self._number = 0
        self._changes = 0

    # --- what is received ---

    def receive(self, request: Any) -> tuple[int, int]:
        """Keep the spans of an OTLP request. Returns how many were kept, and how many rejected as invalid or too large."""
        kept = rejected = 0
        for origin, span in otlp.messages(request):
            if otlp.is_valid(span) and self.spans.add(origin, span):
                self._note_span(otlp.span_of(origin, span))
                kept += 1
            else:
                rejected += 1
        self._notify()
        return kept, rejected

    def read_line(self, process: str, text: str, follows: Line | None = None) -> Line:
        """Keep a log line of a process, which follows another one of it. `notify` wakes those who wait for it."""
        line = self.lines.add(process, text, follows)
        if line.trace_id:
            self._note_line(line)
        return line

    def notify(self) -> None:
        """Wake those who wait for changes."""
        self._notify()

    def wake(self) -> None:
        """Let those who wait for a change continue without one."""
        with self._change:
            self._changes += 1
            self._change.notify_all()

    # --- what is known ---

    def summary(self, any_id: str) -> Summary | None:
        """The summary of a story, by its trace id or its request id."""
        with self._change:
            return self._summaries.get(any_id) or self._summaries.get(self._by_request.get(any_id, ""))

    def spans_of(self, trace_id: str) -> list[Span]:
        """The spans of a story, in the order of their begin."""
        return self.spans.of(trace_id)

    def lines_of(self, trace_id: str) -> list[Line]:
        """The log lines of a story, in the order of their time."""
        known = self.summary(trace_id)
        return self.lines.of(trace_id, known.request_id if known else "")

    def linked(self, trace_id: str) -> list[str]:
        """The other traces that spans of this one are linked to, in either direction: those of batches, and of redrives."""
        with self._change:
            return sorted(self._linked.get(trace_id, ()))

    def newest(
        self, limit: int, wanted: Callable[[Summary], bool] | None = None, before: int | None = None
    ) -> list[Summary]:
        """The newest stories that are `wanted`, newest first; with `before`, those whose number is less."""
        with self._change:
            summaries = list(self._summaries.values())
        found = []
        for one in reversed(summaries):
            if (before is None or one.number < before) and (wanted is None or wanted(one)):
                found.append(one)
                if len(found) == limit:
                    break
        return found

    def __len__(self) -> int:
        """The number of stories."""
        return len(self._summaries)

    @property
    def changes(self) -> int:
        """The number of the last change."""
        return self._changes

    def wait(self, after: int, seconds: float) -> int:
        """Wait until there is a change after the one of this number, at most so long. Returns the number of the last change.

        `newest(…, wanted=lambda story: story.changed > after)` are the stories that it touched.
        """
        with self._change:
            self._change.wait_for(lambda: self._changes > after, seconds)
            return self._changes

    # --- summaries ---

    def _note_span(self, span: Span) -> None:
        with self._change:
            story = self._story(span.trace_id)
            self._bare.pop(span.trace_id, None)
            story.spans += 1
            _extend(story, span.begun, span.ended)
            story.services = _with(story.services, _shared(span.service))
            self._note_request(story, span)
            _note_messaging(story, span)
            _note_failure(story, span)
            for link in span.links:
                self._link(span.trace_id, link.trace_id)
            request_id = span.attributes.get("request.id")
            if isinstance(request_id, str) and SANE.fullmatch(request_id):
                self._name(story, request_id)

    def _note_line(self, line: Line) -> None:
        with self._change:
            story = self._story(line.trace_id)
            story.lines += 1
            at = int(line.at * 1e9)
            if not story.spans:
                _extend(story, at, at)
                story.services = _with(story.services, line.process.partition("-")[0])
                _note_access(story, line)
            if line.level in {"error", "critical"} and line.fields:  # not a part of a traceback
                story.failures += 1
                story.error = story.error or str(line.fields["event"])[:300]
            if line.request_id:
                self._name(story, line.request_id)
            if not story.spans:
                self._limit_bare(story)

    def _limit_bare(self, story: Summary) -> None:
        """Under load most requests are not sampled: those without a failure must not drive out the others."""
        if story.state == "ok":
            self._bare[story.trace_id] = None
            if len(self._bare) > self._most * SHARE_OF_BARE:
                self._drop(next(iter(self._bare)))
        else:
            self._bare.pop(story.trace_id, None)

    def _note_request(self, story: Summary, span: Span) -> None:
        """The first span of a trace names the story: the gateway's, where the request came in, before all others."""
        if span.kind == "SERVER" and (span.role == "gateway" or not story.method):
            story.method = _shared(span.attributes.get("http.request.method"))
            story.route = _shared(span.attributes.get("http.route"))
            story.status = _status(span.attributes.get("http.response.status_code"))
            story.duration = span.ended - span.begun
            story.name, story.root = _shared(span.name), True
        elif not story.root and (not span.parent_id or not story.name):
            story.name = _shared(span.name)
            story.duration = span.ended - span.begun

    def _story(self, trace_id: str) -> Summary:
        self._changes += 1
        story = self._summaries.get(trace_id)
        if story is None:
            self._number += 1
            story = self._summaries[trace_id] = Summary(trace_id, self._number)
            if len(self._summaries) > self._most:
                self._drop(next(iter(self._summaries)))
        story.changed = self._changes
        return story

    def _name(self, story: Summary, request_id: str) -> None:
        if not story.request_id:
            story.request_id = request_id
            self._by_request[request_id] = story.trace_id

    def _link(self, one: str, other: str) -> None:
        if one == other or any(len(self._linked.get(this, ())) >= MOST_LINKED for this in (one, other)):
            return
        if other in self._linked.get(one, ()):
            return
        self._linked.setdefault(one, set()).add(other)
        self._linked.setdefault(other, set()).add(one)
        self._links += 1
        # The traces that they lead to may never come.
        while len(self._linked) > 2 * self._most or self._links > LINKS_OF_A_STORY * self._most:
            self._unlink(next(iter(self._linked)))

    def _unlink(self, trace_id: str) -> None:
        for other in self._linked.pop(trace_id, ()):
            self._links -= 1
            self._linked[other].discard(trace_id)
            if not self._linked[other]:
                del self._linked[other]

    def _drop(self, trace_id: str) -> None:
        story = self._summaries.pop(trace_id)
        self._bare.pop(trace_id, None)
        if self._by_request.get(story.request_id) == trace_id:
            del self._by_request[story.request_id]
        self._unlink(trace_id)
        self.spans.forget([trace_id])

    def _notify(self) -> None:
        with self._change:
            self._change.notify_all()


def _extend(story: Summary, begun: int, ended: int) -> None:
    story.begun = min(story.begun or begun, begun)
    story.ended = max(story.ended, ended)


@lru_cache(4_096)
def _with(known: tuple[str, ...], one: str) -> tuple[str, ...]:
    """The names with another one. Most stories have the same ones: cached, so that these share their memory."""
    return known if not one or one in known or len(known) >= MOST_NAMES else (*known, one)


def _add_ids(story: Summary, *ids: str) -> None:
    for one in ids:
        if one and one not in story.ids and len(story.ids) < LONGEST_IDS:
            story.ids = f"{story.ids} {one}" if story.ids else one


def _note_messaging(story: Summary, span: Span) -> None:
    values = span.attributes
    if topic := values.get("messaging.destination.name"):
        story.topics = _with(story.topics, _shared(topic))
    named = ("messaging.kafka.message.key", "messaging.message.id", "deadletter.id")
    _add_ids(story, *(str(values[name])[:80] for name in named if values.get(name)))
    for one in span.happenings:
        if one.name in {"retry", "hold"} and span.kind == "CONSUMER":
            story.retries += 1
        elif one.name == "dead letter":
            story.dead_letters += 1
            _add_ids(story, str(one.attributes.get("deadletter.id") or "")[:80])


def _note_failure(story: Summary, span: Span) -> None:
    """A call that failed, such as a statement of an attempt that is repeated, is no failure of the story; its caller decides."""
    if span.error is None:
        return
    is_call = span.kind == "CLIENT"
    if not is_call:
        story.failures += 1
    if not story.error or (story.failures == 1 and not is_call):
        story.error = f"{span.name}: {_reason(span)}"[:300]


def _reason(span: Span) -> str:
    for one in span.happenings:
        if one.name == "exception":
            kind = str(one.attributes.get("exception.type") or "").rpartition(".")[2]
            return " ".join(f"{kind}: {one.attributes.get('exception.message') or ''}".split())
    return span.error or str(span.attributes.get("error.type") or "failed")


_ACCESS = re.compile(r"""\bmethod(?:=|":")(\w+).*?\broute(?:=|":")([^\s"]+).*?\bstatus(?:=|":)(\d+)""")
_DURATION = re.compile(r"""\bduration_ms(?:=|":)(\d{1,12}(?:\.\d+)?)\b""")


def _note_access(story: Summary, line: Line) -> None:
    """A request that was not sampled is known by its lines in the access logs: the gateway's, or else a service's."""
    found = _ACCESS.search(line.text) if "access" in line.text else None
    if found is None or (story.method and not found[2].startswith("/api")):
        return
    duration = _DURATION.search(line.text)
    story.method, story.route, story.status = _shared(found[1]), _shared(found[2]), _status(found[3])
    story.name = _shared(f"{story.method} {story.route}")
    story.duration = int(float(duration[1]) * 1e6) if duration else 0


def _shared(value: Any) -> str:
    """One of few names, which stories share."""
    return intern(str(value or "")[:LONGEST_NAME])


def _status(value: object) -> int:
    """The status of a response; 0 if it is none."""
    status = otlp.number(value) or 0
    return status if 100 <= status <= 599 else 0
