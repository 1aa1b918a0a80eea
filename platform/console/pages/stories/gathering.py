"""What belongs to a story: its spans and lines, and the batches of other traces in which its events were processed."""

from collections.abc import Mapping
from dataclasses import dataclass

from console import system
from console.failures import NotFound
from console.sequence.build import BATCH, Context, diagram
from console.sequence.folding import Tree
from console.sequence.model import Diagram
from console.stores.model import Line, Span, Summary
from services import SERVICES

MOST_LINKED = 20
"""So many linked traces are read; the others are only named."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """A story: `spans` include those of its `batches`; `linked` are the other traces that it is linked to, with their summaries."""

    summary: Summary
    spans: list[Span]
    lines: list[Line]
    batches: list[str]
    linked: list[tuple[str, Summary | None]]

    @property
    def diagram_begun(self) -> int:
        """The zero of its time axis."""
        return min((span.begun for span in self.spans), default=self.summary.begun)

    def diagram(self, opened: list[str]) -> Diagram:
        """Its diagram."""
        return diagram(self.spans, Context(_databases(), _peers(), self.lines), opened)


def summary_of(any_id: str) -> Summary:
    """The summary of a story, by its trace id or its request id. Raises NotFound."""
    story = system.current().stories.summary(any_id)
    if story is None:
        raise NotFound(
            f"No story with the id {any_id[:80]!r} is in memory: the oldest ones are dropped, and all when the console stops."
            " The services may still know it: search for its id under Stories."
        )
    return story


def gather(any_id: str) -> Gathered:
    """A story, by its trace id or its request id. Raises NotFound."""
    summary = summary_of(any_id)
    stories = system.current().stories
    spans = stories.spans_of(summary.trace_id)
    batches, linked = [], []
    for number, other in enumerate(stories.linked(summary.trace_id)):
        batch = _batch(other, summary.trace_id) if number < MOST_LINKED else []
        if batch:
            batches.append(other)
            spans += batch
        else:
            linked.append((other, stories.summary(other)))
    return Gathered(summary, spans, stories.lines_of(summary.trace_id), batches, linked)


def _batch(trace_id: str, of: str) -> list[Span]:
    """The spans of the batches of a trace in which events of the story were; empty if there are none."""
    tree = Tree(system.current().stories.spans_of(trace_id))
    found = []
    for span in list(tree.by_id.values()):
        if span.name == BATCH and any(link.trace_id == of for link in span.links):
            found += list(tree.below(span))
    return found


def _databases() -> Mapping[str, str]:
    return {one.name: one.database for one in SERVICES if one.database}


def _peers() -> Mapping[str, str]:
    """The names of the web processes by `host:port`."""
    found = {}
    for process in system.current().processes.all:
        found[process.url.rpartition("/")[2]] = process.name
    return found
