"""The traces of the real system, read back from a receiver of OTLP in a process of its own."""

import uuid
from collections import Counter
from functools import partial

import pytest

from tests.acceptance.faults import faults
from tests.acceptance.fixtures import prepared
from tests.acceptance.harness import Harness
from tests.acceptance.ledger import new_ids, settle, user_created, wire
from tests.acceptance.topics import Topics
from tests.collector import running
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

DEAD_LETTER_TOPIC = "user.created.orders.dlq"
EXPORT_SOON = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_RESOURCE_ATTRIBUTES": "service.version=7.1"}


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with running(tmp_path_factory.mktemp("collector")) as collector:
        yield collector


@pytest.fixture(scope="module")
def system(request, collector):
    exporter = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **EXPORT_SOON}
    with prepared(request.config, "traces", kind=partial(Harness, **exporter)) as system:
        system.restore()
        yield system


@pytest.fixture(scope="module")
def topics(system):
    with Topics(system.engines.kafka.bootstrap_servers) as topics:
        yield topics


class Person:
    """Somebody with data of its own in every part of a request."""

    def __init__(self, system, *, flags="01", **headers):
        self.marks = [f"{kind}{uuid.uuid4().hex[:12]}" for kind in ("mail", "name", "query", "agent")]
        mail, name, query, agent = self.marks
        self.trace, self.parent = uuid.uuid4().hex, uuid.uuid4().hex[:16]
        answer = system.client.post(
            f"/api/users?q={query}",
            json={"email": f"{mail}@example.org", "name": f"Ada {name}"},
            headers={"User-Agent": agent, "traceparent": f"00-{self.trace}-{self.parent}-{flags}", **headers},
        )
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["id"]

    def order(self, system):
        """The status of the welcome order, once it is settled."""
        rows = system.rows("orderdb", "SELECT status FROM orders WHERE user_id = %s AND status <> 'pending'", self.id)
        return rows[0][0] if rows else None


class Tree:
    """The spans of a trace, by their names."""

    def __init__(self, spans):
        self.spans = spans
        self.by_id = {span["id"]: span for span in spans}

    def one(self, name, kind, service, role):
        """The only span of this name and kind, of this service and process."""
        found = [s for s in self.spans if (s["name"], s["kind"]) == (name, kind)]
        assert len(found) == 1, [(s["name"], s["kind"], s["resource"]["service.name"]) for s in self.spans]
        assert found[0]["resource"]["service.name"] == service
        assert found[0]["resource"]["process.role"] == role
        return found[0]

    def children(self, span):
        return [one for one in self.spans if one["parent"] == span["id"]]

    def statements(self, span):
        """The summaries of the SQL statements below a span."""
        return {
            one["attributes"]["db.query.summary"] for one in self.children(span) if one["scope"].endswith("sql_spans")
        }


LAST = "process payment.completed"


@pytest.fixture(scope="module")
def told(system, collector):
    person = Person(system)
    eventually(lambda: person.order(system), what="the order is settled")
    return person, Tree(eventually(lambda: complete(collector, person.trace), what="the whole trace has arrived"))


def complete(collector, trace, last=LAST):
    """The spans of a trace, once a span of this name and what began before it have arrived."""
    spans = collector.spans(trace)
    names = Counter(span["name"] for span in spans)
    sent = ("send user.created", "send order.created", "send payment.completed", "POST /api/users", "POST users")
    assert all(names[name] for name in (last, *sent)), names
    return spans


class TestStory:
    def test_the_tree(self, told):
        person, tree = told
        gateway = tree.one("POST /api/users", "SERVER", "gateway", "gateway")
        client = tree.one("POST /users", "CLIENT", "gateway", "gateway")
        users = tree.one("POST users", "SERVER", "users", "web")
        sent_user = tree.one("send user.created", "PRODUCER", "users", "relay")
        made = tree.one("process user.created", "CONSUMER", "orders", "consume")
        sent_order = tree.one("send order.created", "PRODUCER", "orders", "relay")
        paid = tree.one("process order.created", "CONSUMER", "payments", "consume")
        sent_payment = tree.one("send payment.completed", "PRODUCER", "payments", "consume")
        closed = tree.one("process payment.completed", "CONSUMER", "orders", "consume")

        assert (gateway["trace"], gateway["parent"]) == (person.trace, person.parent)
        parents = [(client, gateway), (users, client), (sent_user, users), (made, users), (sent_order, made)]
        parents += [(paid, made), (sent_payment, paid), (closed, paid)]
        assert [one["parent"] for one, _ in parents] == [parent["id"] for _, parent in parents]
        for processed, sent in ((made, sent_user), (paid, sent_order), (closed, sent_payment)):
            assert processed["links"] == [[person.trace, sent["id"]]]
        assert {"INSERT users", "INSERT outbox"} <= tree.statements(users)
        assert {"INSERT inbox", "INSERT orders", "INSERT outbox"} <= tree.statements(made)
        assert {"INSERT inbox", "UPDATE orders"} <= tree.statements(closed)
        assert all(span["parent"] in tree.by_id for span in tree.spans if span is not gateway)

    def test_waiting_is_told_apart_from_work(self, told):
        _, tree = told
        for topic in ("user.created", "order.created"):
            [sent] = [span for span in tree.spans if span["name"] == f"send {topic}"]
            assert 0 <= sent["attributes"]["outbox.wait_seconds"] < 60
            assert sent["start"] < sent["end"]
        for span in tree.spans:
            if span["kind"] == "CONSUMER":
                assert 0 <= span["attributes"]["kafka.wait_seconds"] < 60
                assert span["attributes"]["event.attempt"] == 1
        gateway = next(span for span in tree.spans if span["name"] == "POST /api/users")
        [client] = tree.children(gateway)
        assert gateway["start"] <= client["start"] < client["end"] <= gateway["end"]

    def test_conventions_are_the_stable_ones(self, told):
        _, tree = told
        names = {name for span in tree.spans for name in span["attributes"]}
        assert {
            "http.request.method",
            "http.response.status_code",
            "http.route",
            "db.system.name",
            "db.query.text",
        } <= names
        assert {"messaging.system", "messaging.operation.type", "messaging.destination.name"} <= names
        old = ("http.method", "http.status_code", "http.target", "http.url", "http.scheme", "net.", "db.system", "db.name",
               "db.statement", "db.user")  # fmt: skip
        assert {name for name in names if name in old or name.startswith("net.")} == set()

    def test_each_process_describes_itself(self, told):
        _, tree = told
        for span in tree.spans:
            resource = span["resource"]
            assert resource["service.version"] == "7.1"
            assert resource["deployment.environment.name"] == "development"
            host, _, process = resource["service.instance.id"].rpartition(":")
            assert host
            assert process.isdigit()
        assert len({span["resource"]["service.instance.id"] for span in tree.spans}) == 6

    def test_no_error_and_no_personal_data(self, told, collector):
        person, tree = told
        assert {span["status"] for span in tree.spans} == {"UNSET"}
        assert [mark for mark in person.marks if mark in collector.text()] == []


def test_a_trace_that_is_not_sampled_leaves_no_span(system, collector):
    quiet = Person(system, flags="00")
    eventually(lambda: quiet.order(system), what="its order is settled")
    loud = Person(system)
    eventually(lambda: complete(collector, loud.trace))  # what was recorded before has arrived as well
    assert collector.spans(quiet.trace) == []


def test_a_batch_is_linked_to_its_events(system, topics, collector):
    system.end(["orders-consume"])
    traces = {}
    for user in new_ids(30):
        topic, key, value, headers = wire(user_created(user))
        traces[trace := uuid.uuid4().hex] = user
        parent = f"00-{trace}-{uuid.uuid4().hex[:16]}-01".encode()
        topics.send(topic, key, value, [*(one for one in headers if one[0] != "traceparent"), ("traceparent", parent)])
    system.start("orders-consume")
    settle(system, topics)

    def arrived():
        spans = [
            span for span in collector.spans() if span["trace"] in traces and span["name"] == "process user.created"
        ]
        assert len(spans) == len(traces)
        return spans

    spans = eventually(arrived)
    batches = {span["id"]: span for span in collector.spans() if span["name"] == "process batch"}
    linked = [(span, batches[link[1]]) for span in spans for link in span["links"] if link[1] in batches]
    assert len(linked) > len(spans) / 2, "most were processed in batches"
    everything = Tree(collector.spans())
    for span, batch in linked:
        assert [span["trace"], span["id"]] in batch["links"]
        assert batch["attributes"]["messaging.batch.message_count"] == len(batch["links"])
        assert {"INSERT inbox", "INSERT orders", "COPY outbox"} <= everything.statements(batch)
        assert batch["trace"] not in traces


def test_a_poison_event_with_its_attempts_its_dead_letter_and_its_redrive(system, topics, collector):
    settings = {"RETRY_ATTEMPTS": "3", "RETRY_BASE_SECONDS": "0.05", "CONSUMER_STOP_AFTER_KEYS": "0"}
    system.start("orders-consume", **settings)
    with faults(system) as fault:
        fault.refuse("%")
        poison = Person(system)
        [letter] = eventually(lambda: [one for one in topics.of(DEAD_LETTER_TOPIC) if one.key == poison.id.encode()])
    letter_id = letter.header("deadletter-id")
    status, said = system.manage("orders", "deadletters", "redrive", "--id", letter_id)
    assert status == 0, said
    eventually(lambda: poison.order(system), what="the redriven event made an order")
    tree = Tree(eventually(lambda: complete(collector, poison.trace)))

    *attempts, again = sorted(
        (span for span in tree.spans if span["name"] == "process user.created"), key=lambda span: span["start"]
    )
    assert [span["attributes"]["event.attempt"] for span in attempts] == [1, 2, 3]
    assert [span["status"] for span in attempts] == ["UNSET", "UNSET", "ERROR"]
    retries = [event for span in attempts for event in span["events"] if event["name"] == "retry"]
    assert [(one["retry.attempt"], one["retry.reason"]) for one in retries] == [(1, "handler"), (2, "handler")]
    assert all(one["retry.delay_seconds"] > 0 for one in retries)
    exceptions = [event for span in tree.spans for event in span["events"] if event["name"] == "exception"]
    assert len(exceptions) == 1, "the error is recorded once"
    assert exceptions[0] in attempts[2]["events"]
    [dead] = [event for event in attempts[2]["events"] if event["name"] == "dead letter"]
    assert (dead["deadletter.id"], dead["deadletter.reason"], dead["deadletter.attempts"]) == (letter_id, "handler", 3)

    sent = tree.one(f"send {DEAD_LETTER_TOPIC}", "PRODUCER", "orders", "relay")
    first, redrive = sorted(
        (span for span in tree.spans if span["name"] == "send user.created"), key=lambda span: span["start"]
    )
    assert redrive["resource"]["process.role"] == "command"
    assert redrive["attributes"]["deadletter.id"] == again["attributes"]["deadletter.id"] == letter_id
    assert redrive["links"] == [[poison.trace, sent["id"]]]
    assert again["links"] == [[poison.trace, redrive["id"]]]
    assert attempts[0]["links"] == [[poison.trace, first["id"]]]
    assert (again["status"], again["events"]) == ("UNSET", [])
    assert [mark for mark in poison.marks if mark in collector.text()] == []


def test_the_sampling_of_the_gateway_holds_for_all(system, collector):
    system.start("gateway", OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0")
    ignored = Person(system)
    eventually(lambda: ignored.order(system), what="its order is settled")
    system.start("gateway")
    loud = Person(system)
    eventually(lambda: complete(collector, loud.trace))
    assert collector.spans(ignored.trace) == []
