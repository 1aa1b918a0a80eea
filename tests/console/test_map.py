"""The map without a browser: what it consists of, where everything is, and what its figures are computed from."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.pages.map import history as metrics
from console.pages.map import states
from console.pages.map.figures import Figures, Inputs, duration, per_second, summary
from console.pages.map.history import History, percentile
from console.pages.map.layout import HEIGHT, WIDTH, layout
from console.pages.map.sources import Offsets, Outbox
from console.pages.map.topology import build
from console.sources.events import Description, Event, described
from console.sources.processes import Part, Process, Snapshot, declared, parse
from services import SERVICES, Service
from services.declaration import CONSUMER, RELAY

SHIPPING = Service(
    name="shipping",
    summary="ships",
    port=8004,
    database="shippingdb",
    route="shipments",
    relay=RELAY,
    consumer=CONSUMER,
)


def event(topic: str) -> Event:
    return Event(topic, topic, topic, "", 1, {})


def description(service: str, publishes: tuple[str, ...] = (), consumes: tuple[str, ...] = ()) -> Description:
    return Description(service, tuple(map(event, publishes)), tuple(map(event, consumes)), known=True)


KNOWN = (
    description("users", ("user.created",)),
    description("orders", ("order.created",), ("user.created", "payment.completed")),
    description("payments", ("payment.completed",), ("order.created",)),
)


def drawn(services=SERVICES, descriptions=KNOWN, snapshots=()):
    return build(services, declared(services), descriptions, snapshots)


def snapshot(name: str, text: str = "", status: str = "ready", at: float = 1.0, **more) -> Snapshot:
    process = next(one for one in declared() if one.name == name)
    return Snapshot(process, at, status, metrics=parse(text), **more)


class TestTopology:
    def test_every_process_database_and_topic_is_a_node(self):
        nodes = {node.id for node in drawn().nodes}
        assert {process.name for process in declared()} <= nodes
        assert {
            "db:users",
            "db:orders",
            "topic:user.created",
            "topic:order.created",
            "topic:payment.completed",
        } <= nodes

    def test_an_event_can_be_followed_from_the_gateway_to_its_last_effect(self):
        edges = {(edge.source, edge.target) for edge in drawn().edges}
        way = [
            "gateway", "users", "db:users", "users-relay", "topic:user.created", "orders-consume", "db:orders",
            "orders-relay", "topic:order.created", "payments-consume", "topic:payment.completed", "orders-consume",
        ]  # fmt: skip
        assert set(pairwise(way)) <= edges

    def test_a_fifth_service_appears_by_itself(self):
        here = drawn(
            (*SERVICES, SHIPPING), (*KNOWN, description("shipping", ("shipment.sent",), ("payment.completed",)))
        )
        edges = {(edge.source, edge.target) for edge in here.edges}
        assert "shipping" in here.lanes
        assert {
            ("gateway", "shipping"), ("shipping-relay", "topic:shipment.sent"),
            ("topic:payment.completed", "shipping-consume"), ("shipping-consume", "db:shipping"),
        } <= edges  # fmt: skip

    def test_a_service_that_clients_cannot_reach_has_no_arrow_from_the_gateway(self):
        assert not [edge for edge in drawn().edges if edge.target == "payments"]

    def test_a_service_that_never_responded_is_known_by_its_workers(self):
        seen = [
            snapshot(
                "orders-relay",
                'outbox_published_total{topic="order.created"} 0\noutbox_published_total{topic="x.orders.dlq"} 0',
            ),
            snapshot("orders-consume", 'events_consumed_total{topic="user.created"} 0'),
        ]
        here = drawn(descriptions=(), snapshots=seen)
        edges = {(edge.source, edge.target) for edge in here.edges}
        assert {("orders-relay", "topic:order.created"), ("topic:user.created", "orders-consume")} <= edges
        assert "topic:x.orders.dlq" not in {node.id for node in here.nodes}

    def test_only_processes_that_exist_are_shown(self):
        here = build(SERVICES, [one for one in declared() if one.service == "users"], KNOWN, ())
        assert {node.service for node in here.nodes} <= {"users", "orders", "payments"}
        assert "orders" not in {node.id for node in here.nodes}

    def test_its_version_changes_with_it(self):
        assert drawn().version == drawn().version != drawn(descriptions=()).version


class TestLayout:
    @given(st.integers(1, 12), st.integers(0, 4), st.booleans())
    def test_no_two_nodes_overlap_and_all_are_within_the_drawing(self, count, topics, consumes):
        services = (
            SERVICES[0],
            *(
                replace(SHIPPING, name=f"service{n}x", port=9000 + 40 * n, database=f"db{n}", route=f"r{n}")
                for n in range(count)
            ),
        )
        names = [f"event{n}.{topic}" for n in range(count) for topic in range(topics)]
        descriptions = [
            description(
                f"service{n}x", tuple(names[n * topics : (n + 1) * topics]), tuple(names[:3]) if consumes else ()
            )
            for n in range(count)
        ]
        drawing = layout(drawn(services, descriptions))
        for place in drawing.places:
            assert 0 <= place.x <= drawing.width - WIDTH
            assert 0 <= place.y <= drawing.height - HEIGHT
        for one in drawing.places:
            for other in drawing.places:
                apart = abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT
                assert apart or one is other, (one, other)

    def test_every_arrow_is_drawn_from_node_to_node(self):
        here = drawn()
        assert {path.edge.id for path in layout(here).paths} == {edge.id for edge in here.edges}

    def test_arrows_that_meet_one_side_of_a_node_do_not_meet_in_one_point(self):
        ends = [path.d.split()[-2:] for path in layout(drawn()).paths if path.edge.target == "orders-consume"]
        assert len(ends) == len({tuple(end) for end in ends}) == 2

    def test_nothing_at_all(self):
        empty = layout(build((), (), (), ()))
        assert (empty.places, empty.paths) == ((), ())


def requests(count: int, slow: int = 0, errors: int = 0, route: str = "/api/users") -> str:
    labels = f'http_request_method="POST",http_route="{route}",http_response_status_code='
    name = "http_server_request_duration_seconds"
    return (
        f'{name}_count{{{labels}"201"}} {count}\n{name}_count{{{labels}"503"}} {errors}\n'
        f'{name}_bucket{{{labels}"201",le="0.1"}} {count - slow}\n{name}_bucket{{{labels}"201",le="1.0"}} {count}\n'
        f'{name}_bucket{{{labels}"201",le="+Inf"}} {count}\n'
    )


class TestHistory:
    def filled(self, *texts: str, name: str = "gateway") -> History:
        history = History()
        for at, text in enumerate(texts):
            history.add(snapshot(name, text, at=float(at)))
        return history

    def test_a_rate_is_the_increase_per_second(self):
        history = self.filled(requests(10), requests(12), requests(16))
        assert history.rate("gateway", f"{metrics.REQUESTS}_count") == pytest.approx(3)
        assert history.moved("gateway", f"{metrics.REQUESTS}_count") == 4
        assert history.rate("gateway", f"{metrics.REQUESTS}_count", "/api/orders") == 0

    def test_one_sample_is_no_rate(self):
        assert self.filled(requests(10)).rate("gateway", f"{metrics.REQUESTS}_count") == 0

    def test_a_restart_is_no_negative_rate(self):
        history = self.filled(requests(10), requests(2), requests(3))
        assert history.rate("gateway", f"{metrics.REQUESTS}_count") == 1

    def test_a_process_that_is_down_has_no_rate(self):
        history = self.filled(requests(10), requests(20))
        history.add(snapshot("gateway", status="down", at=3.0))
        assert history.rate("gateway", f"{metrics.REQUESTS}_count") == 0

    def test_the_consoles_own_requests_are_no_traffic(self):
        history = self.filled(requests(1, route="/asyncapi"), requests(9, route="/asyncapi"), name="users")
        assert history.rate("users", f"{metrics.REQUESTS}_count") == 0
        assert history.p95("users", metrics.REQUESTS) is None

    def test_p95_is_that_of_the_last_seconds(self):
        history = self.filled(requests(1000), requests(1100, slow=100))
        assert 0.1 < history.p95("gateway", metrics.REQUESTS) <= 1.0

    @given(st.lists(st.integers(0, 1000), min_size=1, max_size=8))
    def test_a_percentile_is_within_the_bounds(self, counts):
        cumulative = [sum(counts[: n + 1]) for n in range(len(counts))]
        found = percentile(0.95, {float(n + 1): float(count) for n, count in enumerate(cumulative)})
        assert (found is None) == (sum(counts) == 0)
        assert found is None or 0 <= found <= len(counts)


class TestStates:
    @pytest.mark.parametrize(
        ("status", "reason", "parts", "level"),
        [
            ("ready", "", [], "good"),
            ("unknown", "", [], "unknown"),
            ("down", "does not respond in time", [], "stuck"),
            ("down", "does not run: nothing listens on its port", [], "bad"),
            ("degraded", "broker: does not respond", [Part("broker", "down")], "warn"),
            ("unavailable", "database: does not respond", [Part("database", "down")], "warn"),
            ("unavailable", "loop: has been stuck for 40 s", [Part("loop", "down")], "stuck"),
            ("unavailable", "handlers: stopped", [Part("handlers", "down"), Part("database", "up")], "stuck"),
            ("unavailable", "listener: closed", [Part("listener", "down")], "bad"),
        ],
    )
    def test_of_a_process(self, status, reason, parts, level):
        found = states.of_process(snapshot("orders", status=status, reason=reason, parts=tuple(parts)))
        assert found.level == level
        assert found.word or level == "good"

    def test_a_database_is_down_if_a_process_says_so_and_unknown_if_none_speaks(self):
        up = snapshot("orders", parts=(Part("database", "up"),))
        down = snapshot("orders-relay", status="unavailable", parts=(Part("database", "down", "does not respond"),))
        silent = snapshot("orders-consume", status="down", parts=())
        assert states.of_database([up, down]).level == "bad"
        assert states.of_database([up, silent]).level == "good"
        assert states.of_database([silent]).level == "unknown"


def figures(*snapshots: Snapshot, history: History | None = None, **more) -> tuple[Figures, Inputs]:
    here = drawn()
    ends = {(topic, 0): 10 for topic in ("user.created", "order.created", "payment.completed")}
    values = {
        "offsets": Offsets(at=1.0, ends=ends), "offsets_before": Offsets(), "outboxes": {}, "dead_letters": {},
        "idle_since": {},
    }  # fmt: skip
    known = {one.process.name: one for one in map(Snapshot, declared())}
    known |= {one.process.name: one for one in snapshots}
    inputs = Inputs(topology=here, snapshots=known, history=history or History(), **values | more)
    return Figures(inputs), inputs


class TestFigures:
    def test_a_consumer_that_is_down_is_bad_and_its_arrows_are_broken_with_what_waits(self):
        offsets = Offsets(at=1.0, ends={("user.created", 0): 9}, lags={("orders", "user.created"): 7})
        found, inputs = figures(snapshot("orders-consume", status="down", reason="does not run"), offsets=offsets)
        arrow = found.edges["topic:user.created→orders-consume"]
        assert found.nodes["orders-consume"].state.level == "bad"
        assert (arrow.broken, arrow.label) == (True, "7 waiting")
        level, text = summary(inputs.topology, found.nodes)
        assert level == "bad"
        assert "orders-consume: down" in text

    def test_what_is_processed_within_two_seconds_does_not_wait(self):
        history = History()
        for at, count in ((0.0, 0), (1.0, 5)):
            history.add(snapshot("orders-consume", f'events_consumed_total{{topic="user.created"}} {count}', at=at))
        offsets = Offsets(at=1.0, ends={("user.created", 0): 9}, lags={("orders", "user.created"): 7})
        found, _ = figures(offsets=offsets, history=history)
        assert found.edges["topic:user.created→orders-consume"].label == "5.0/s"

    def test_a_consumer_with_lag_that_processes_nothing_is_stuck_whatever_it_says(self):
        alive = snapshot("orders-consume", 'events_blocked_keys{topic="user.created"} 0', at=100.0)
        assert figures(alive, idle_since={"orders-consume": 95.0})[0].nodes["orders-consume"].state.level == "good"
        assert figures(alive, idle_since={"orders-consume": 80.0})[0].nodes["orders-consume"].state.level == "stuck"

    def test_a_consumer_that_retries_is_not_stuck(self):
        alive = snapshot("orders-consume", 'events_blocked_keys{topic="user.created"} 2', at=100.0)
        state = figures(alive, idle_since={"orders-consume": 80.0})[0].nodes["orders-consume"].state
        assert (state.level, state.word) == ("warn", "2 keys retried")

    def test_dead_letters_are_seen(self):
        node = figures(snapshot("orders-consume", "x 1"), dead_letters={"orders-consume": 3})[0].nodes["orders-consume"]
        assert (node.state.level, node.note) == ("warn", "3 dead letters")

    def test_an_outbox_is_known_by_its_service_if_the_relay_is_down(self):
        found, _ = figures(
            snapshot("users-relay", status="down", reason="does not run"), outboxes={"users": Outbox(1234, 0, 65.0)}
        )
        assert found.nodes["db:users"].line == "outbox 1,234, 65 s old"

    def test_without_kafka_all_topics_are_bad(self):
        found, _ = figures(offsets=Offsets(problem="does not respond"))
        assert {found.nodes[f"topic:{name}"].state.level for name in ("user.created", "order.created")} == {"bad"}

    def test_a_topic_that_is_missing_is_bad(self):
        found, _ = figures(offsets=Offsets(at=1.0, ends={("order.created", 0): 1}))
        assert found.nodes["topic:user.created"].state.word == "missing"
        assert found.nodes["topic:order.created"].state.level == "good"

    def test_what_is_published_in_transactions_is_what_its_readers_process(self):
        history = History()
        for at, count in ((0.0, 0), (1.0, 4)):
            history.add(
                snapshot("orders-consume", f'events_consumed_total{{topic="payment.completed"}} {count}', at=at)
            )
        found, _ = figures(snapshot("orders-consume", "x 1"), history=history)
        assert found.edges["payments-consume→topic:payment.completed"].rate == 4

    def test_all_is_well(self):
        ready = [snapshot(one.name, "x 1", parts=(Part("database", "up"),)) for one in declared()]
        found, inputs = figures(*ready, snapshot("users-relay", "outbox_relay_active 1"))
        assert summary(inputs.topology, found.nodes) == ("good", f"All {len(inputs.topology.nodes)} parts work.")

    @pytest.mark.parametrize(
        ("value", "text"), [(0, ""), (0.01, "0.1/s"), (3.25, "3.2/s"), (1234.5, "1,234/s"), (9.97, "10/s")]
    )
    def test_rates_are_short(self, value, text):
        assert per_second(value) == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.0001, "1 ms"),
            (0.25, "250 ms"),
            (2.5, "2.5 s"),
            (60, "60 s"),
            (600, "10 min"),
            (float("inf"), "very long"),
        ],
    )
    def test_times_are_short(self, value, text):
        assert duration(value) == text


class TestDescribed:
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["channels", "operations", "action", "channel", "$ref", "messages", "payload", "x"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=20,
        )
    )
    def test_whatever_the_document_is(self, document):
        assert described("users", document).service == "users"

    def test_what_is_no_document(self):
        found = described(
            "users", json.loads('{"operations": {"a": {"action": "send", "channel": {"$ref": "#/channels/x"}}}}')
        )
        assert found.publishes == ()


def test_processes_of_unknown_services_are_left_out():
    stranger = Process("other", "other", "web", "http://127.0.0.1:1", "http://127.0.0.1:1")
    here = build(SERVICES, (*declared(), stranger), KNOWN, ())
    assert "other" not in {node.id for node in here.nodes}
    assert here.lanes == tuple(one.name for one in SERVICES if not one.edge)
