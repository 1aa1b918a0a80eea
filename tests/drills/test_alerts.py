"""Each alert fires for real: the running system is broken, and a real Prometheus is asked.

The windows of the rules are divided by 30, so that a drill takes minutes; their thresholds and expressions are those of
production.
"""

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from embedded import ports
from tests.acceptance.fixtures import prepared
from tests.acceptance.harness import Harness
from tests.acceptance.topics import Topics
from tests.telemetry.prometheus import PROGRAM, Prometheus, Stopwatch
from tests.telemetry.system import monitor, targets
from tests.waiting import eventually

pytestmark = [pytest.mark.drill, pytest.mark.skipif(PROGRAM is None, reason="needs prometheus")]

FACTOR = 30
WITHIN = 180.0


@dataclass
class Watched:
    """A running system, its topics, and the Prometheus that watches it."""

    system: Harness
    topics: Topics
    prometheus: Prometheus
    seconds: dict[str, float] = field(default_factory=dict)

    def fires(self, since: Stopwatch, alert: str, **labels: str) -> None:
        """Wait until an alert with these labels fires, and note the seconds since the system was broken."""
        eventually(lambda: self.prometheus.firing(alert, **labels), within=WITHIN, what=f"{alert} {labels} fires")
        self.seconds[f"{alert} {' '.join(labels.values())}".strip()] = since()

    def resolves(self, alert: str, **labels: str) -> None:
        """Wait until no alert with these labels fires."""
        eventually(lambda: not self.prometheus.firing(alert, **labels), within=WITHIN, what=f"{alert} {labels} ends")


@pytest.fixture(scope="module")
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:
        system: Harness = stack.enter_context(prepared(request.config, "alerts"))
        topics = stack.enter_context(Topics(system.engines.kafka.bootstrap_servers))
        watching = monitor(system)
        stack.callback(watching.stop)
        prometheus = stack.enter_context(Prometheus(system.folder / "prometheus", factor=FACTOR))
        system.restore()
        prometheus.scrape(targets(system, watching))
        found = Watched(system, topics, prometheus)
        yield found
        for name, seconds in found.seconds.items():
            print(f"\n{name}: fired after {seconds:.0f} s", end="")
        print()


@pytest.fixture
def calm(watched: Watched) -> Watched:
    """The system repaired, with every process scraped and no alert about it."""
    watched.system.restore()
    eventually(lambda: all(up for _, up in watched.prometheus.query('up{job="services"}')), what="all are scraped")
    for alert in ("ServiceDown", "DependencyDown", "HighErrorRate", "HighLatency", "ConsumerStuck", "RelayMissing"):
        watched.resolves(alert)
    return watched


@contextlib.contextmanager
def writing(system: Harness, threads: int = 1) -> Iterator[None]:
    """Clients create users through the gateway within the block."""
    ending = threading.Event()

    def write() -> None:
        while not ending.wait(0.05):
            with contextlib.suppress(Exception):
                create(system)

    clients = [threading.Thread(target=write, daemon=True) for _ in range(threads)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        ending.set()
        for client in clients:
            client.join(60)


def create(system: Harness) -> None:
    system.client.post("/api/users", json={"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})


def test_a_service_is_down(calm):
    """The web process of users is killed."""
    with writing(calm.system):
        since = Stopwatch()
        calm.system["users"].kill9()
        calm.fires(since, "ServiceDown", service="users", process="web")
        calm.fires(since, "HighErrorRate", service="gateway")
        calm.fires(since, "DependencyDown", service="gateway", dependency="users")
        calm.fires(since, "ErrorBudgetBurnFast", slo="availability")
        calm.fires(since, "ErrorBudgetBurnSlow", slo="availability")
        calm.system.start("users")
        calm.resolves("ServiceDown")
        calm.resolves("HighErrorRate", service="gateway")


def test_requests_are_slow(calm):
    """Somebody holds a lock on the table of users, for two seconds at a time."""
    ending = threading.Event()

    def hold() -> None:
        with calm.system.database("userdb") as connection:
            while not ending.is_set():
                with connection.transaction():
                    connection.execute("LOCK TABLE users IN EXCLUSIVE MODE")
                    ending.wait(2)

    holder = threading.Thread(target=hold, daemon=True)
    with writing(calm.system, threads=12):
        since = Stopwatch()
        holder.start()
        try:
            calm.fires(since, "HighLatency", service="users")
            calm.fires(since, "ThreadsBusy", service="users")
        finally:
            ending.set()
            holder.join()
        calm.resolves("HighLatency", service="users")
        calm.resolves("ThreadsBusy", service="users")


def test_payments_stands_still(calm):
    """The consumer of payments is frozen while 1,100 orders are made; afterwards they are settled, too late."""
    consumer = calm.system["payments-consume"]
    consumer.child.pause()
    since = Stopwatch()
    try:
        with writing(calm.system, threads=4):
            calm.fires(since, "ConsumerLag", consumergroup="payments", topic="order.created")
        calm.fires(since, "ConsumerStuck", consumergroup="payments", topic="order.created")
        calm.fires(since, "OrderPendingTooLong")
        calm.fires(since, "ServiceDown", service="payments", process="consume")
    finally:
        consumer.child.resume()
    calm.fires(since, "ErrorBudgetBurnFast", slo="settled")
    for alert in ("ConsumerLag", "ConsumerStuck", "OrderPendingTooLong"):
        calm.resolves(alert)


def test_the_broker_does_not_respond(calm):
    """The broker is frozen, and users are created."""
    broker = calm.system.engines.kafka
    broker.pause()
    since = Stopwatch()
    try:
        create(calm.system)
        calm.fires(since, "OutboxStalled", service="users")
        calm.fires(since, "DependencyDown", service="orders", process="consume", dependency="broker")
        calm.fires(since, "KafkaDown")
    finally:
        broker.resume()
    calm.resolves("OutboxStalled")
    calm.resolves("KafkaDown")


def test_no_relay_sends(calm):
    """The relay of users is stopped."""
    since = Stopwatch()
    calm.system["users-relay"].kill9()
    calm.fires(since, "RelayMissing", service="users")
    calm.system.start("users-relay")
    calm.resolves("RelayMissing", service="users")


def test_two_relays_send(calm):
    """A relay with the address of another database, as left by a move to a new server."""
    postgres = calm.system.engines.postgres
    with psycopg.connect(postgres.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE moved OWNER users")
    url = postgres.url("userdb").replace("/userdb", "/moved")
    assert calm.system.manage("users", "migrate", "-v0", USERS_DATABASE_URL=url)[0] == 0
    since = Stopwatch()
    [second] = calm.system.start("users-relay-1", USERS_DATABASE_URL=url)
    calm.prometheus.scrape(targets(calm.system, None, before=calm.prometheus))
    calm.fires(since, "RelayNotAlone", service="users")
    calm.system.end([second.name])
    calm.prometheus.scrape(targets(calm.system, None, before=calm.prometheus))
    calm.resolves("RelayNotAlone", service="users")


def test_an_event_is_dead_lettered(calm):
    """A record that is not an event."""
    since = Stopwatch()
    calm.topics.send("order.created", b"odd", b"not JSON", [("ce_id", str(uuid.uuid4()).encode())])
    calm.fires(since, "DeadLetters", service="payments", topic="order.created", reason="unreadable")


def test_a_key_waits(calm):
    """A payment for an order that does not exist: the handler raises until the event is dead-lettered."""
    order = str(uuid.uuid4())
    payment = {
        "paymentId": str(uuid.uuid4()),
        "orderId": order,
        "userId": str(uuid.uuid4()),
        "amount": "10.00",
        "status": "completed",
        "completedAt": "2026-01-01T00:00:00Z",
    }
    since = Stopwatch()
    headers = [("ce_id", str(uuid.uuid4()).encode())]
    calm.topics.send("payment.completed", order.encode(), json.dumps(payment).encode(), headers)
    calm.fires(since, "KeyBlocked", service="orders", topic="payment.completed")
    calm.fires(since, "DeadLetters", service="orders", topic="payment.completed", reason="handler")
    calm.resolves("KeyBlocked")


def test_connections_run_out(calm):
    """Somebody opens sessions until hardly any is left."""
    postgres = calm.system.engines.postgres
    with (
        psycopg.connect(postgres.url("postgres", "postgres"), autocommit=True) as admin,
        contextlib.ExitStack() as stack,
    ):
        admin.execute("ALTER DATABASE userdb CONNECTION LIMIT 30")
        since = Stopwatch()
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(calm.system.database("userdb"))
        calm.fires(since, "ConnectionPoolExhausted", service="users")
        stack.close()
        admin.execute("ALTER DATABASE userdb CONNECTION LIMIT -1")
    calm.resolves("ConnectionPoolExhausted", service="users")


def test_spans_are_lost(calm):
    """The collector refuses connections."""
    [closed] = ports.free(1)
    calm.system.start("users", OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{ports.HOST}:{closed}")
    since = Stopwatch()
    with writing(calm.system):
        calm.fires(since, "SpansDropped", service="users", process="web")
    calm.system.start("users")
    calm.resolves("SpansDropped")
