"""What the map consists of: the processes, databases and topics of the system as nodes, and what flows between them as arrows.

Everything is derived: processes and databases from the declarations of the services, topics and their readers from what the
services say of their events. A service that has never responded is known by the metrics of its workers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from chassis.kafka import names
from console.sources.events import Description
from console.sources.processes import Process, Snapshot
from services import Service

NodeKind = Literal["gateway", "web", "database", "relay", "topic", "consume"]
EdgeKind = Literal["http", "sql", "outbox", "kafka"]

KINDS: dict[str, NodeKind] = {"gateway": "gateway", "web": "web", "relay": "relay", "consume": "consume"}
"""The kinds of processes that are shown."""
WORKERS: dict[str, tuple[str, str]] = {
    "relay": ("publishes", "outbox_published_total"),
    "consume": ("consumes", "events_consumed_total"),
}
"""The metric whose label `topic` names the topics of a worker from its start, by the kind of the worker."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `id` is the name of the process, `db:SERVICE` or `topic:NAME`; `service` is the one that it belongs to."""

    id: str
    kind: NodeKind
    label: str
    service: str


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow, in the direction in which requests or events move.

    `by` is the process that counts them, `label` the route or the topic by which it does.
    """

    source: str
    target: str
    kind: EdgeKind
    by: str
    label: str = ""

    @property
    def id(self) -> str:
        """Its id: from where to where."""
        return f"{self.source}→{self.target}"


@dataclass(frozen=True, slots=True)
class Topology:
    """All nodes and arrows. `lanes` are the services behind the gateway, in the order of their declarations."""

    lanes: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    groups: Mapping[str, tuple[str, tuple[str, ...]]]
    """The consumer group and the topics that it reads, by the name of the consumer's process."""

    @property
    def transactional(self) -> frozenset[str]:
        """The topics that a consumer writes in Kafka transactions."""
        return frozenset(edge.label for edge in self.edges if edge.kind == "kafka" and edge.source in self.groups)

    @property
    def version(self) -> str:
        """A text that differs between two topologies."""
        return f"{hash((self.nodes, self.edges)) & 0xFFFFFFFFFFFF:x}"


@dataclass(slots=True)
class _Flows:
    publishes: list[str]
    consumes: list[str]


def build(
    services: Iterable[Service],
    processes: Iterable[Process],
    descriptions: Iterable[Description],
    snapshots: Iterable[Snapshot],
) -> Topology:
    """The map of these services, as far as they have processes here."""
    services = tuple(services)
    declared = {one.name for one in services}
    processes = [one for one in processes if one.service in declared and one.kind in KINDS]
    present = [one for one in services if any(process.service == one.name for process in processes)]
    flows = _flows(present, descriptions, snapshots)
    nodes = [Node(process.name, KINDS[process.kind], process.name, process.service) for process in processes]
    nodes += [Node(f"db:{one.name}", "database", one.database, one.name) for one in present if one.database]
    nodes += _topic_nodes(flows)
    by_kind = {(process.service, process.kind): process.name for process in processes}
    edge = next((process.name for process in processes if process.kind == "gateway"), "")
    edges = [found for one in present for found in _edges(one, flows[one.name], by_kind, edge)]
    consumers = {process.service: process.name for process in processes if process.kind == "consume"}
    groups = {
        consumers[service]: (names.group(service), tuple(flow.consumes))
        for service, flow in flows.items()
        if service in consumers
    }
    return Topology(tuple(one.name for one in present if not one.edge), tuple(nodes), tuple(edges), groups)


def _flows(
    services: Iterable[Service], descriptions: Iterable[Description], snapshots: Iterable[Snapshot]
) -> dict[str, _Flows]:
    flows = {service.name: _Flows([], []) for service in services}
    known = set()
    for one in descriptions:
        if one.service in flows and one.known:
            flows[one.service] = _Flows(
                sorted({event.topic for event in one.publishes}), sorted({event.topic for event in one.consumes})
            )
            known.add(one.service)
    for snapshot in snapshots:
        process = snapshot.process
        if process.kind in WORKERS and process.service in flows and process.service not in known:
            attribute, metric = WORKERS[process.kind]
            topics = {dict(labels).get("topic", "") for labels in snapshot.metrics.get(metric, {})} - {""}
            setattr(flows[process.service], attribute, sorted(filter(_is_event, topics)))
    return flows


def _is_event(topic: str) -> bool:
    return not names.is_dead_letter_topic(topic)


def _topic_nodes(flows: Mapping[str, _Flows]) -> list[Node]:
    """The topics, each in the row of the service that publishes it, or else of the first that reads it."""
    owners: dict[str, str] = {}
    for attribute in ("publishes", "consumes"):
        for service, flow in flows.items():
            for topic in getattr(flow, attribute):
                owners.setdefault(topic, service)
    return [Node(f"topic:{topic}", "topic", topic, service) for topic, service in owners.items()]


def _edges(service: Service, flow: _Flows, by_kind: Mapping[tuple[str, str], str], gateway: str) -> list[Edge]:
    web, relay, consumer = (by_kind.get((service.name, kind), "") for kind in ("web", "relay", "consume"))
    database = f"db:{service.name}" if service.database else ""
    found: list[Edge] = []
    if web and gateway and service.route:
        found.append(Edge(gateway, web, "http", gateway, f"/api/{service.route}"))
    if web and database:
        found.append(Edge(web, database, "sql", web))
    if consumer and database:
        found.append(Edge(consumer, database, "sql", consumer))
    if relay and database:
        found.append(Edge(database, relay, "outbox", relay))
    if sender := relay or consumer:
        found += [Edge(sender, f"topic:{topic}", "kafka", sender, topic) for topic in flow.publishes]
    if consumer:
        found += [Edge(f"topic:{topic}", consumer, "kafka", consumer, topic) for topic in flow.consumes]
    return found
