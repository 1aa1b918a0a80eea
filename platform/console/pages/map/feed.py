"""The frames of the map, one for each poll of the processes, for all who look at it; and none while no page is open."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from chassis.kafka import names
from console import sse, system
from console.pages.map import layout, topology
from console.pages.map.figures import Figures, Inputs, summary
from console.pages.map.history import CONSUMED, DUPLICATES, History
from console.pages.map.layout import Layout
from console.pages.map.sources import Brokers, DeadLetters, Outboxes, Periodic, dead_letter_topics
from console.pages.map.topology import Node, Topology
from services import SERVICES


@dataclass(frozen=True, slots=True)
class Frame:
    """What the map shows after a poll. `level` and `text` are those of the whole."""

    number: int
    topology: Topology
    figures: Figures
    level: str
    text: str

    def as_json(self) -> str:
        """The figures for the script of the page."""
        nodes = {
            name: {
                "level": one.state.level, "word": one.state.word, "line": one.line, "note": one.note,
                "reason": one.state.reason,
            }
            for name, one in self.figures.nodes.items()
        }  # fmt: skip
        edges = {
            name: {"label": one.label, "rate": one.rate, "moved": one.moved, "broken": one.broken}
            for name, one in self.figures.edges.items()
        }
        whole = {"version": self.topology.version, "level": self.level, "text": self.text}
        return json.dumps({**whole, "nodes": nodes, "edges": edges}, separators=(",", ":"))


class Feed:
    """Computes the frames. Safe to use from several threads."""

    def __init__(self, console: system.Console) -> None:
        self._console = console
        self._brokers = Brokers(console.topics.source)
        self._outboxes = Outboxes(console.staff)
        self._letters = DeadLetters(console.staff)
        self._threads = [
            Periodic("map-brokers", self._brokers.read),
            Periodic("map-outboxes", self._outboxes.read),
            Periodic("map-dead-letters", self._letters.read),
            Periodic("map-events", self._read_events),
        ]
        self._history = History()
        self._idle_since: dict[str, float] = {}
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._layout: tuple[str, Layout] | None = None

    def _read_events(self) -> None:
        self._console.events.read()

    def watch(self) -> None:
        """Poll everything every second, for the next seconds."""
        self._console.processes.watch()
        for thread in self._threads:
            thread.watch()

    def frame(self, after: int = -1, seconds: float = 0.0) -> Frame:
        """The newest frame. Waits at most so many seconds for one after that of this number."""
        number = self._console.processes.wait(after, seconds)
        with self._lock:
            if self._frame is None or self._frame.number != number:
                self._frame = self._compute(number)
            return self._frame

    def layout(self, of: Topology) -> Layout:
        """The places of the nodes and arrows."""
        with self._lock:
            if self._layout is None or self._layout[0] != of.version:
                self._layout = of.version, layout.layout(of)
            return self._layout[1]

    def _compute(self, number: int) -> Frame:
        snapshots = self._console.processes.snapshots
        here = topology.build(SERVICES, self._console.processes.all, self._console.events.known(), snapshots)
        for snapshot in snapshots:
            self._history.add(snapshot)
        self._brokers.groups, self._brokers.transactional = dict(here.groups.values()), here.transactional
        with_silent_relay = {
            one.process.service for one in snapshots if one.process.kind == "relay" and not one.metrics
        }
        databases = (node.service for node in here.nodes if node.kind == "database")
        self._outboxes.wanted = tuple(service for service in databases if service in with_silent_relay)
        self._note_idle(here)
        figures = Figures(
            Inputs(
                topology=here,
                snapshots={one.process.name: one for one in snapshots},
                history=self._history,
                offsets=self._brokers.offsets,
                offsets_before=self._brokers.before,
                outboxes=self._outboxes.found,
                dead_letters=self._dead_letters(here),
                idle_since=self._idle_since,
            )
        )
        return Frame(number, here, figures, *summary(here, figures.nodes))

    def _note_idle(self, here: Topology) -> None:
        """Note since when each consumer has lag and processes nothing."""
        lags, now = self._brokers.offsets.lags, self._brokers.offsets.at
        for process, (group, topics) in here.groups.items():
            waits = any(lags.get((group, topic)) for topic in topics)
            if waits and not self._history.moved(process, CONSUMED) and not self._history.moved(process, DUPLICATES):
                self._idle_since.setdefault(process, now)
            else:
                self._idle_since.pop(process, None)

    def _dead_letters(self, here: Topology) -> dict[str, int]:
        """The dead letters of each consumer, at most; exactly once its service has said it."""
        topics = dead_letter_topics(dict(here.groups.values()))
        offsets, wanted, found = self._brokers.offsets, {}, {}
        for process, (group, read) in here.groups.items():
            service = names.service(group)
            found[process] = sum(offsets.span(topics[group, topic]) for topic in read)
            if found[process]:
                wanted[service] = sum(offsets.end(topics[group, topic]) for topic in read)
                found[process] = min(found[process], self._letters.found.get(service, found[process]))
        self._letters.wanted = wanted
        return found


@cache
def current() -> Feed:
    """The feed of this process."""
    return Feed(system.current())


def events() -> Iterator[str]:
    """The stream of a page: a frame after each poll."""
    feed, number = current(), -1
    while True:
        feed.watch()
        begun = time.monotonic()
        frame = feed.frame(number, sse.BEAT_SECONDS)
        if frame.number == number:
            yield sse.BEAT
        else:
            number = frame.number
            yield sse.event(frame.as_json())
        if time.monotonic() - begun < 0.05:  # more than twenty frames per second are of no use
            time.sleep(0.05)


def heading(node: Node) -> str:
    """What a node is, in one word."""
    words = {"gateway": "gateway", "web": "web process", "database": "database", "relay": "relay", "topic": "topic"}
    return words.get(node.kind, "consumer")
