"""What the map shows at one moment: the state and the figures of every node and arrow."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from console.pages.map import history as metrics
from console.pages.map import states
from console.pages.map.history import History
from console.pages.map.sources import Offsets, Outbox
from console.pages.map.states import SERIOUS, State
from console.pages.map.topology import Edge, Node, Topology
from console.sources.processes import Snapshot

LATE_SECONDS = 2.0
"""More events than are processed in this time are said to wait; fewer are on their way."""
STUCK_SECONDS = 8.0
"""A consumer with lag that has processed nothing for so long is stuck, even if it reports that it is well."""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What a node shows: its state, one line of figures, and one of what needs attention."""

    state: State
    line: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class EdgeFigures:
    """What an arrow shows: its label, events per second, how many moved since the frame before, and whether it is broken."""

    label: str = ""
    rate: float = 0.0
    moved: int = 0
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that the figures are computed from."""

    topology: Topology
    snapshots: Mapping[str, Snapshot]
    history: History
    offsets: Offsets
    offsets_before: Offsets
    outboxes: Mapping[str, Outbox]
    dead_letters: Mapping[str, int]
    """Dead letters by the name of the consumer's process, as far as they are known."""
    idle_since: Mapping[str, float]
    """Since when a consumer with lag has processed nothing, in seconds since the epoch, by the name of its process."""


class Figures:
    """Computes one frame."""

    def __init__(self, inputs: Inputs) -> None:
        self._in = inputs
        self._history = inputs.history
        self._processes = {one.process.name: states.of_process(one) for one in inputs.snapshots.values()}
        self.nodes = {node.id: self._node(node) for node in inputs.topology.nodes}
        self.edges = {edge.id: self._edge(edge) for edge in inputs.topology.edges}

    def _node(self, node: Node) -> NodeFigures:
        if node.kind == "database":
            return self._database(node)
        if node.kind == "topic":
            return self._topic(node)
        snapshot = self._in.snapshots.get(node.id)
        state = self._processes.get(node.id, states.UNKNOWN)
        if snapshot is None or not snapshot.metrics:
            return NodeFigures(state, "", state.word)
        figures = {"relay": self._relay, "consume": self._consumer}.get(node.kind, self._web)(node, snapshot)
        state = states.worse(state, figures.state)
        return NodeFigures(state, figures.line, state.word or figures.note)

    def _web(self, node: Node, snapshot: Snapshot) -> NodeFigures:
        rate = self._history.rate(node.id, f"{metrics.REQUESTS}_count")
        failing = self._history.rate(node.id, metrics.ERRORS)
        state = State("warn", f"{per_second(failing)} fail", "Responses with 5xx.") if failing > 0 else states.GOOD
        return NodeFigures(state, _line(rate, self._history.p95(node.id, metrics.REQUESTS)))

    def _relay(self, node: Node, snapshot: Snapshot) -> NodeFigures:
        rate = self._history.rate(node.id, metrics.PUBLISHED)
        line = _line(rate, self._history.p95(node.id, metrics.OUTBOX_DELAY))
        if snapshot.value("outbox_topic_waits"):
            return NodeFigures(State("stuck", "topic refuses", "A topic cannot be written."), line)
        stands_by = not snapshot.value("outbox_relay_active")
        return NodeFigures(states.GOOD, line, "stands by" if stands_by else "")

    def _consumer(self, node: Node, snapshot: Snapshot) -> NodeFigures:
        rate = self._history.rate(node.id, metrics.CONSUMED)
        line = _line(rate, self._history.p95(node.id, metrics.EVENTS_DELAY))
        state = states.GOOD
        retrying = int(snapshot.value("events_blocked_keys"))
        if retrying:
            state = State(
                "warn", f"{retrying} {'key' if retrying == 1 else 'keys'} retried", "An event of them failed."
            )
        if snapshot.value("events_stopped"):
            state = State("stuck", "topic stopped", "Key after key fails, and none succeeds.")
        idle = snapshot.at - self._in.idle_since.get(node.id, snapshot.at)
        if idle > STUCK_SECONDS and not retrying:
            state = State("stuck", "stuck", f"Events wait, and none was processed for {idle:.0f} s.")
        letters = self._in.dead_letters.get(node.id, 0)
        note = f"{letters:,} dead {'letter' if letters == 1 else 'letters'}" if letters else ""
        if letters and state.level == "good":
            state = State("warn", note, "Events that could not be processed wait for a decision.")
        return NodeFigures(state, line, note)

    def _database(self, node: Node) -> NodeFigures:
        users = [one for one in self._in.snapshots.values() if one.process.service == node.service]
        state = states.of_database(users)
        outbox = self._outbox(node.service)
        if outbox is None:
            return NodeFigures(state, "", state.word)
        line = f"outbox {outbox.waiting:,}"
        if outbox.waiting and outbox.oldest >= 1:
            line += f", {duration(outbox.oldest)} old"
        if outbox.parked:
            state = states.worse(state, State("warn", f"{outbox.parked:,} parked", "Rows wait for a decision."))
        return NodeFigures(state, line, state.word)

    def _outbox(self, service: str) -> Outbox | None:
        """The outbox as its active relay measures it, or else as the service says."""
        for one in self._in.snapshots.values():
            if one.process.service == service and one.process.kind == "relay" and "outbox_pending" in one.metrics:
                return Outbox(
                    int(one.value("outbox_pending")),
                    int(one.value("outbox_parked")),
                    one.value("outbox_oldest_age_seconds"),
                )
        return self._in.outboxes.get(service)

    def _topic(self, node: Node) -> NodeFigures:
        offsets = self._in.offsets
        if offsets.problem:
            return NodeFigures(State("bad", "Kafka is away", f"Kafka {offsets.problem}."), "", "Kafka is away")
        if not offsets.at:
            return NodeFigures(states.UNKNOWN, "", states.UNKNOWN.word)
        topic = node.id.removeprefix("topic:")
        if not any(place[0] == topic for place in offsets.ends):
            return NodeFigures(State("bad", "missing", "There is no such topic."), "", "missing")
        rates = [self._rate(edge) for edge in self._in.topology.edges if edge.target == node.id]
        return NodeFigures(states.GOOD, per_second(sum(rates)), "")

    def _edge(self, edge: Edge) -> EdgeFigures:
        ends = [self.nodes[end].state.level for end in (edge.source, edge.target) if end in self.nodes]
        broken = any(level in SERIOUS for level in ends)
        rate, moved = self._rate(edge), math.ceil(self._moved(edge))
        label = per_second(rate) if rate else ""
        if edge.target in self._in.topology.groups:
            waiting = self._lag(edge)
            if waiting > LATE_SECONDS * rate:
                label = f"{'≤ ' if edge.label in self._in.topology.transactional else ''}{waiting:,} waiting"
        return EdgeFigures(label, round(rate, 2), moved, broken)

    def _rate(self, edge: Edge) -> float:
        if self._is_transactional(edge):
            return self._by_readers(edge, per_second=True)
        return self._history.rate(edge.by, *self._counter(edge))

    def _moved(self, edge: Edge) -> float:
        if self._is_transactional(edge):
            return self._by_readers(edge, per_second=False)
        return self._history.moved(edge.by, *self._counter(edge))

    def _counter(self, edge: Edge) -> tuple[str, str | None]:
        """The counter of what moves along an arrow, and its label."""
        if edge.kind == "http":
            return f"{metrics.REQUESTS}_count", edge.label
        if edge.kind == "outbox":
            return metrics.PUBLISHED, None
        if edge.kind == "sql":
            return metrics.CONSUMED if edge.source in self._in.topology.groups else metrics.WRITTEN, None
        return (metrics.CONSUMED if edge.target == edge.by else metrics.PUBLISHED), edge.label

    def _is_transactional(self, edge: Edge) -> bool:
        """Whether it is what a consumer publishes in Kafka transactions, which nothing counts."""
        return edge.source in self._in.topology.groups and edge.kind == "kafka"

    def _by_readers(self, edge: Edge, *, per_second: bool) -> float:
        """What the readers of a topic process, or else its offsets, which include the markers of transactions."""
        measure = self._history.rate if per_second else self._history.moved
        readers = [
            measure(one.by, metrics.CONSUMED, edge.label)
            for one in self._in.topology.edges
            if one.source == edge.target and self._processes.get(one.by, states.UNKNOWN).level not in SERIOUS
        ]
        if readers:
            return max(readers)
        before, now = self._in.offsets_before, self._in.offsets
        seconds = now.at - before.at if per_second else 1.0
        return max(0, now.end(edge.label) - before.end(edge.label)) / seconds if before.at and seconds > 0 else 0.0

    def _lag(self, edge: Edge) -> int:
        """The events that wait for a consumer."""
        group, _ = self._in.topology.groups[edge.target]
        return self._in.offsets.lags.get((group, edge.label), 0)


def summary(topology: Topology, nodes: Mapping[str, NodeFigures]) -> tuple[str, str]:
    """The level of the whole, and one sentence."""
    for level, levels in (("bad", SERIOUS), ("warn", ("warn",)), ("unknown", ("unknown",))):
        if found := [node for node in topology.nodes if nodes[node.id].state.level in levels]:
            return level, _listed(found, nodes)
    return "good", f"All {len(topology.nodes)} parts work."


_MOST_LISTED = 4


def _listed(found: Iterable[Node], nodes: Mapping[str, NodeFigures]) -> str:
    named = [f"{node.label}: {nodes[node.id].state.word or 'needs attention'}" for node in found]
    rest = len(named) - _MOST_LISTED
    return "; ".join(named[:_MOST_LISTED]) + (f"; and {rest} more" if rest > 0 else "")


def per_second(rate: float) -> str:
    """A rate as text; empty if it is 0."""
    if rate <= 0:
        return ""
    return f"{rate:,.0f}/s" if rate >= 9.95 else f"{max(rate, 0.1):.1f}/s"


def duration(seconds: float) -> str:
    """A time as text."""
    if math.isinf(seconds):
        return "very long"
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _line(rate: float, p95: float | None) -> str:
    return "  ".join(part for part in (per_second(rate), f"P95 {duration(p95)}" if p95 is not None else "") if part)
