"""Each dependency fails in several ways: processes wait, log it once, lose no event, and resume by themselves."""

import resource
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import AdminClient

from embedded.ports import HOST
from tests.acceptance.fixtures import shown
from tests.acceptance.ledger import UNSENT, check, settle
from tests.acceptance.linked import LinkedHarness, Names, linked_harness
from tests.acceptance.outages import HUNG, Supervisor, Visitors, degraded, unready
from tests.acceptance.topics import Topics
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

GOES_ON_WITHIN = 120.0
"""Seconds from the return of a dependency until what waited for it goes all its way again: patience. `make drills` judges it."""
WAITED = 20
"""So many orders, of the forty and more that came meanwhile, show that it does: fewer may have been further already."""
ORDER = {"userId": str(uuid.uuid4()), "items": [{"productId": "tea-pot", "quantity": 1, "price": 19.99}]}
NO_DATABASE = {"orders-relay": "database", "orders-consume": "database"}
NO_BROKER = dict.fromkeys(("users-relay", "orders-relay", "orders-consume", "payments-consume"), "broker")


@pytest.fixture(scope="module")
def linked(request: pytest.FixtureRequest) -> Iterator[LinkedHarness]:
    with linked_harness() as harness, shown(request.config, harness):
        yield harness


@pytest.fixture(scope="module")
def topics(linked: LinkedHarness) -> Iterator[Topics]:
    with Topics(linked.engines.kafka.bootstrap_servers) as topics:
        yield topics


@pytest.fixture
def system(linked: LinkedHarness) -> LinkedHarness:
    linked.restore()
    return linked


def said(member, part: str) -> int:
    """How often a process has said that it waits for it."""
    return len(member.logged(f"waiting for the {part}"))


def is_paid(system: LinkedHarness, user_id: str) -> bool:
    found = system.rows("orderdb", "SELECT status FROM orders WHERE user_id = %s", user_id)
    return [status for (status,) in found] in (["paid"], ["failed"])


def leads_all(client: AdminClient) -> bool:
    """Whether each partition has a leader."""
    known = client.list_topics(timeout=10).topics.values()
    return all(partition.leader != -1 for topic in known for partition in topic.partitions.values())


class Trial:
    """A load, and while it goes on something fails and comes back; then the account is drawn up."""

    def __init__(self, system: LinkedHarness, topics: Topics) -> None:
        self.system, self.engines = system, system.engines
        self._topics = topics
        self.visitors = Visitors(system)
        self._supervisor = Supervisor(system)
        self.seconds = 0.0
        """From the return of what failed until all that waited for it is done, and everybody is ready."""

    @contextmanager
    def of(
        self,
        cause: Callable[[], object],
        mend: Callable[[], object],
        down: Mapping[str, str],
    ) -> Iterator[None]:
        """Cause it; in the body all of `down` (process, and the part that it misses) say so; mend it, and all goes on."""
        system = self.system
        pids = {member.name: member.pid for member in system.members.values()}
        self._newcomer_is_served()
        self.visitors.start()
        try:
            self.more_visitors()
            cause()
            try:
                before = {name: said(system[name], part) for name, part in down.items()}
                for name, part in down.items():
                    eventually(lambda name=name, part=part: unready(system, name, part), what=f"{name} misses {part}")
                yield
                self.more_visitors(40)
                after = {name: said(system[name], part) for name, part in down.items()}
            finally:
                mend()
            self._goes_on(down)
        finally:
            self.visitors.end()
        settle(system, self._topics, meanwhile=self._supervisor)
        assert {status for status, _ in self.visitors.answers} == {201}
        # A relay whose session ends between the broker's word and its own mark may be followed by one that sends again.
        check(system, self._topics, [user_id for _, user_id in self.visitors.answers], relayed_once=False)
        self._nobody_died(pids)
        assert {name: after[name] - before[name] for name in down if after[name] - before[name] > 1} == {}

    def more_visitors(self, count: int = 5) -> None:
        """Wait until so many more were answered."""
        before = len(self.visitors.answers)
        eventually(lambda: len(self.visitors.answers) >= before + count, what="writes go on")

    def _newcomer_is_served(self) -> None:
        """The order of a user who comes now is paid."""
        answer = self.system.client.post("/api/users", json={"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
        assert answer.status_code == 201
        paid = self._supervisor.sees(lambda: is_paid(self.system, answer.json()["id"]))
        eventually(paid, what="a newcomer's order is paid")

    def _goes_on(self, down: Mapping[str, str]) -> None:
        """Orders that waited are paid, everybody is ready again, and then a user who comes now is served to the end."""
        began, before = time.monotonic(), self._settled()
        more_are_settled = self._supervisor.sees(lambda: self._settled() >= before + WAITED)
        eventually(more_are_settled, within=GOES_ON_WITHIN, what="what waited is paid")
        for name in down:
            eventually(self.system[name].ready, within=GOES_ON_WITHIN, what=f"{name} is ready again")
        self.seconds = time.monotonic() - began
        self._newcomer_is_served()

    def _settled(self) -> int:
        return self.system.rows("orderdb", "SELECT count(*) FROM orders WHERE status <> 'pending'")[0][0]

    def _nobody_died(self, pids: Mapping[str, int]) -> None:
        """But workers of payments, whose call into the Kafka client may hang for ever when the connection goes in it."""
        died = self._supervisor.died
        hung = [line for name in set(died) for line in self.system[name].logged(HUNG)]
        assert {name.rpartition("-consume")[0] for name in died} <= {"payments"}, "\n".join(self._supervisor.ends)
        assert len(hung) >= len(died)
        same = {name: pid for name, pid in pids.items() if name not in died}
        assert {name: self.system[name].pid for name in same if self.system[name].alive} == same


@pytest.fixture
def trial(system: LinkedHarness, topics: Topics) -> Trial:
    return Trial(system, topics)


def assert_unavailable(answer) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")


class TestDatabase:
    """The database of orders fails: users is still served, and welcome orders wait."""

    def ended(self, trial: Trial, *statements: str) -> None:
        """Say this to the server, and end the sessions that the service has."""
        sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'orders'"
        trial.engines.administer("orders", *statements, sessions)

    def test_read_only(self, trial):
        """As in a failover, on open connections too: it reads, and every write fails."""

        def switch(state: str) -> None:
            change = f"ALTER SYSTEM SET default_transaction_read_only = {state}"
            trial.engines.administer("orders", change, "SELECT pg_reload_conf()")

        with trial.of(lambda: switch("on"), lambda: switch("off"), NO_DATABASE):
            assert_unavailable(trial.system.client.post("/api/orders", json=ORDER))
            assert trial.system.client.get("/api/orders?limit=1").status_code == 200
            _, body = eventually(lambda: degraded(trial.system["orders"]))
            assert body["parts"]["database"] == {"status": "degraded", "reason": "is read-only"}
        assert trial.system.client.post("/api/orders", json=ORDER).status_code == 201

    def test_out_of_connections(self, trial):
        with trial.of(
            lambda: self.ended(trial, "ALTER ROLE orders CONNECTION LIMIT 0"),
            lambda: trial.engines.administer("orders", "ALTER ROLE orders CONNECTION LIMIT -1"),
            {**NO_DATABASE, "orders": "database"},
        ):
            assert_unavailable(trial.system.client.get("/api/orders?limit=1"))
            assert_unavailable(trial.system.client.post("/api/orders", json=ORDER))

    def test_slow(self, trial):
        """Every statement hits its time limit: nobody can tell it from an event that asks too much, but by all the others."""
        locks = trial.engines.superuser("orders")

        def lock() -> None:
            locks.execute("BEGIN")
            locks.execute("LOCK TABLE inbox, outbox, orders")

        with locks, trial.of(lock, lambda: locks.execute("ROLLBACK"), NO_DATABASE):
            assert_unavailable(trial.system.client.get("/api/orders?limit=1"))
            assert_unavailable(trial.system.client.post("/api/orders", json=ORDER))

    def test_failover(self, trial):
        """A new primary with the same data behind the same address; connections to the old one are dead."""
        old = trial.engines.server("orders")
        with trial.of(old.stop, lambda: trial.engines.fail_over("orders"), {**NO_DATABASE, "orders": "database"}):
            assert_unavailable(trial.system.client.post("/api/orders", json=ORDER))
        assert trial.engines.server("orders").port != old.port

    def test_wrong_password(self, trial):
        """Who runs waits for the right one, and so does who starts."""
        right = trial.engines.server("orders").passwords["orders"]
        starting = ("orders-relay-1", "orders-consume-1")
        with trial.of(
            lambda: self.ended(trial, "ALTER ROLE orders PASSWORD 'another'"),
            lambda: trial.engines.administer("orders", f"ALTER ROLE orders PASSWORD '{right}'"),
            {**NO_DATABASE, "orders": "database"},
        ):
            for name in starting:
                trial.system.spawn(name)
                eventually(lambda name=name: unready(trial.system, name, "database"))
            assert_unavailable(trial.system.client.post("/api/orders", json=ORDER))
        for name in starting:
            eventually(trial.system[name].ready, within=GOES_ON_WITHIN)
            assert said(trial.system[name], "database") <= 1


class TestNames:
    """Addresses are host names, as in production, and cannot be resolved."""

    def test_unknown(self, trial, tmp_path):
        names, known = Names(tmp_path), ("database.test", "broker.test")
        if refusal := names.unavailable_because():
            pytest.skip(f"no process here may have names of its own: {refusal}")
        told = trial.engines.environment("orders")
        addresses = {
            "ORDERS_DATABASE_URL": told["ORDERS_DATABASE_URL"].replace(HOST, known[0]),
            "KAFKA_BOOTSTRAP_SERVERS": told["KAFKA_BOOTSTRAP_SERVERS"].replace(HOST, known[1]),
        }
        for name in NO_DATABASE:
            trial.system.spawn(name, NAMES=str(tmp_path), **addresses)
        for name in NO_DATABASE:
            for part in ("database", "broker"):
                eventually(lambda name=name, part=part: unready(trial.system, name, part))
        names.set(*known)
        for name in NO_DATABASE:
            eventually(trial.system[name].ready, within=GOES_ON_WITHIN, what=f"{name} knows where to go")

        def forget() -> None:
            names.set()
            trial.engines.links["orders>db"].reset()
            trial.engines.links["orders>kafka"].reset()

        with trial.of(forget, lambda: names.set(*known), NO_DATABASE):
            pass


class TestBroker:
    """Writes succeed all the time."""

    def test_unreachable_for_one_client(self, trial):
        link = trial.engines.links["orders>kafka"]
        with trial.of(link.cut, link.heal, {"orders-relay": "broker", "orders-consume": "broker"}):
            assert trial.system.client.post("/api/orders", json=ORDER).status_code == 201
            for name in ("users-relay", "payments-consume"):
                eventually(trial.system[name].ready, what=f"{name} is not touched")
            eventually(lambda: trial.system.rows("userdb", UNSENT) == [(0,)])

    def test_slow(self, trial):
        """Nobody is down, and everything takes its time."""
        links = [link for name, link in trial.engines.links.items() if name.endswith(">kafka")]

        def each(action: str, *arguments: float) -> Callable[[], None]:
            return lambda: [getattr(link, action)(*arguments) for link in links] and None

        with trial.of(each("slow", 0.3), each("heal"), {}):
            trial.more_visitors(40)
            first = trial.visitors.answers[0][1]
            eventually(lambda: is_paid(trial.system, first))

    def test_wrong_password(self, trial):
        """Kafka is told another password for two services, and drops their connections; then the right one again."""
        clients = ("orders", "payments")

        def another() -> None:
            for client in clients:
                trial.engines.set_password(client, "another")
                trial.engines.links[f"{client}>kafka"].reset()

        def right() -> None:
            for client in clients:
                trial.engines.set_password(client)

        def says_what_to_check(name: str) -> bool:
            """Whatever the words of the Kafka client are."""
            _, body = trial.system[name].readiness()
            lines = trial.system[name].logged("the broker rejects the credentials")
            assert {"KAFKA_SASL_PASSWORD" in line["check"] for line in lines} == {True}
            return "rejects the credentials: check KAFKA_SASL_USERNAME" in body["parts"]["broker"].get("reason", "")

        down = {name: part for name, part in NO_BROKER.items() if not name.startswith("users")}
        with trial.of(another, right, down):
            trial.system.spawn("payments-consume-1")
            eventually(lambda: unready(trial.system, "payments-consume-1", "broker"))
            assert trial.system.client.post("/api/orders", json=ORDER).status_code == 201
            for name in (*down, "payments-consume-1", "orders"):
                eventually(lambda name=name: says_what_to_check(name), what=f"{name} says what to check")
            assert not trial.system["users-relay"].logged("the broker rejects the credentials")
        eventually(trial.system["payments-consume-1"].ready, within=GOES_ON_WITHIN)

    def test_out_of_disk(self, trial):
        """The kernel refuses every write of the broker, which then ends itself, as Kafka does when it cannot write its log."""
        kafka = trial.engines.kafka
        broker = kafka.members[0].child

        def fill() -> None:
            resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            eventually(lambda: not broker.alive, what="the broker gives up")

        def make_room() -> None:
            kafka.restart()
            # One that ended like this leads its partitions again only when the controller has noticed its end.
            client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
            eventually(lambda: leads_all(client), within=60, what="the broker leads its partitions")

        with trial.of(fill, make_room, NO_BROKER):
            assert trial.system.client.post("/api/orders", json=ORDER).status_code == 201
        assert broker.popen.returncode > 0, "it ended itself, by no signal"
