"""Where the nodes and arrows of the map are: a column for each kind of node, a row for each service, no crossing within a row.

The columns are the way of an event: gateway, web process, database with its outbox, relay, topic, consumer. A consumer's
write to its own database is the only arrow that goes back over several columns; it has the bottom of its row for itself.
Lengths are in the units of the drawing, which are pixels if it is not scaled.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from console.pages.map.topology import Edge, Node, NodeKind, Topology

WIDTH, HEIGHT = 172, 66
MARGIN, HEADING = 14, 34
BETWEEN_ROWS, PADDING, GUTTER = 14, 12, 30
CORNER = 10
PORT_STEP = 14
"""Distance between two arrows that meet the same side of a node, if there is room for it."""

COLUMNS: tuple[tuple[NodeKind, str, int], ...] = (
    ("gateway", "Gateway", 66),
    ("web", "Web", 44),
    ("database", "PostgreSQL and outbox", 60),
    ("relay", "Relays", 60),
    ("topic", "Kafka topics", 132),
    ("consume", "Consumers", 0),
)
"""Kind of node, heading, and the distance to the next column, where the arrows are."""

Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is: its left upper corner."""

    node: Node
    x: float
    y: float

    @property
    def middle(self) -> float:
        """The height of its middle."""
        return self.y + HEIGHT / 2


@dataclass(frozen=True, slots=True)
class Path:
    """An arrow: `d` as in SVG, and the middle of its label."""

    edge: Edge
    d: str
    label_x: float
    label_y: float


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a column."""

    text: str
    x: float


@dataclass(frozen=True, slots=True)
class Lane:
    """The area of a service."""

    service: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """The drawing."""

    width: float
    height: float
    headings: tuple[Heading, ...]
    lanes: tuple[Lane, ...]
    lanes_x: float
    places: tuple[Place, ...]
    paths: tuple[Path, ...]


def layout(topology: Topology) -> Layout:
    """Place all nodes and arrows."""
    columns, width = _columns(topology.nodes)
    lanes, height = _lanes(topology)
    places = {place.node.id: place for place in _places(topology, columns, lanes, height)}
    gutters = {lane.service: lane.y + lane.height - GUTTER / 2 for lane in lanes}
    titles = {kind: title for kind, title, _ in COLUMNS}
    return Layout(
        width=width,
        height=height,
        headings=tuple(Heading(titles[kind], x) for kind, x in columns.items()),
        lanes=tuple(lanes),
        lanes_x=columns.get("web", MARGIN) - PADDING,
        places=tuple(places.values()),
        paths=tuple(_paths(topology.edges, places, gutters)),
    )


def _columns(nodes: Iterable[Node]) -> tuple[dict[NodeKind, float], float]:
    """The left edge of each column that has nodes, and the width of all."""
    kinds = {node.kind for node in nodes}
    found: dict[NodeKind, float] = {}
    x = float(MARGIN)
    for kind, _, gap in COLUMNS:
        if kind in kinds:
            found[kind] = x
            x += WIDTH + gap
    last_gap = next((gap for kind, _, gap in reversed(COLUMNS) if kind in kinds), 0)
    return found, x - last_gap + MARGIN


def _lanes(topology: Topology) -> tuple[list[Lane], float]:
    """The areas of the services, and the height of all."""
    rows: dict[str, int] = defaultdict(lambda: 1)
    for service in topology.lanes:
        rows[service] = max(1, sum(node.service == service and node.kind == "topic" for node in topology.nodes))
    lanes, y = [], float(HEADING)
    for service in topology.lanes:
        band = rows[service] * (HEIGHT + BETWEEN_ROWS) - BETWEEN_ROWS
        lanes.append(Lane(service, y, PADDING + band + GUTTER))
        y += PADDING + band + GUTTER + PADDING / 2
    return lanes, max(y, HEADING + HEIGHT + PADDING) + MARGIN / 2


def _places(topology: Topology, columns: dict[NodeKind, float], lanes: list[Lane], height: float) -> Iterable[Place]:
    areas = {lane.service: lane for lane in lanes}
    together: dict[tuple[str, NodeKind], list[Node]] = defaultdict(list)
    for node in topology.nodes:
        together[node.service, node.kind].append(node)
    for (service, kind), nodes in together.items():
        middle = _middle(areas.get(service), height)
        top = middle - (len(nodes) * (HEIGHT + BETWEEN_ROWS) - BETWEEN_ROWS) / 2
        for row, node in enumerate(nodes):
            yield Place(node, columns[kind], top + row * (HEIGHT + BETWEEN_ROWS))


def _middle(lane: Lane | None, height: float) -> float:
    """The middle of a row's nodes; without a row, as the gateway, that of all."""
    return (HEADING + height) / 2 if lane is None else lane.y + (lane.height + PADDING - GUTTER) / 2


def _paths(edges: Iterable[Edge], places: dict[str, Place], gutters: dict[str, float]) -> Iterable[Path]:
    edges = [edge for edge in edges if edge.source in places and edge.target in places]
    direct = [edge for edge in edges if not _is_back(edge, places)]
    ports = _ports(direct, places)
    for edge in edges:
        source, target = places[edge.source], places[edge.target]
        if _is_back(edge, places):
            yield _back(edge, source, target, gutters[source.node.service])
        else:
            yield _direct(edge, source, target, ports[edge.id, "source"], ports[edge.id, "target"])


def _is_back(edge: Edge, places: dict[str, Place]) -> bool:
    """Whether it is the write of a consumer to its database."""
    return edge.kind == "sql" and places[edge.source].x > places[edge.target].x


def _ports(edges: Iterable[Edge], places: dict[str, Place]) -> dict[tuple[str, str], float]:
    """The heights at which each arrow meets its two nodes, so that those at one side do not meet in one point."""
    at: dict[tuple[str, Side], list[tuple[float, str, str]]] = defaultdict(list)
    for edge in edges:
        ends = {"source": places[edge.source], "target": places[edge.target]}
        for end, other in (("source", "target"), ("target", "source")):
            side: Side = "right" if ends[end].x < ends[other].x else "left"
            at[ends[end].node.id, side].append((ends[other].middle, edge.id, end))
    found: dict[tuple[str, str], float] = {}
    for (node, _), meeting in at.items():
        step = min(PORT_STEP, (HEIGHT - 2 * CORNER) / len(meeting))
        first = places[node].middle - step * (len(meeting) - 1) / 2
        found |= {(edge, end): first + step * row for row, (_, edge, end) in enumerate(sorted(meeting))}
    return found


def _direct(edge: Edge, source: Place, target: Place, y1: float, y2: float) -> Path:
    forward = source.x < target.x
    x1, x2 = (source.x + WIDTH, target.x) if forward else (source.x, target.x + WIDTH)
    bend = (x2 - x1) / 2
    d = f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
    # Near the target, where arrows that begin together are apart.
    share = 0.5 if abs(y1 - y2) < PORT_STEP else 0.72
    return Path(edge, d, x1 + (x2 - x1) * share, _on_curve(y1, y2, share) - 5)


def _on_curve(y1: float, y2: float, share: float) -> float:
    """The height of the curve at about this share of its width."""
    return y1 + (y2 - y1) * (3 * share**2 - 2 * share**3)


def _back(edge: Edge, source: Place, target: Place, gutter: float) -> Path:
    x1, x2 = source.x + WIDTH / 2, target.x + WIDTH / 2
    y1, y2 = source.y + HEIGHT, target.y + HEIGHT
    d = (
        f"M{x1:g} {y1:g}V{gutter - CORNER:g}Q{x1:g} {gutter:g} {x1 - CORNER:g} {gutter:g}"
        f"H{x2 + CORNER:g}Q{x2:g} {gutter:g} {x2:g} {gutter - CORNER:g}V{y2:g}"
    )
    return Path(edge, d, (x1 + x2) / 2, gutter - 5)
