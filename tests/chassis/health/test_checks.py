"""The checks against a real PostgreSQL and a real Kafka: working, suspended, killed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from django.conf import settings
from django.db import connections
from django.db.utils import ConnectionHandler
from health_check.exceptions import ServiceUnavailable, ServiceWarning

from chassis.events import Event
from chassis.events.registry import Handler
from chassis.health import checks, probe, registry
from chassis.health.heartbeat import Heartbeat
from chassis.health.registry import Part
from chassis.runtime.dependency import Dependency
from embedded import cache
from embedded.kafka import Kafka
from embedded.postgres import PostgreSQL
from settings import base
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(registry, "_declared", None)
    monkeypatch.setattr(probe, "_told", {})
    monkeypatch.setattr(probe, "_runs", {})


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgreSQL]:
    """A server of our own, that may be frozen and killed."""
    with cache.temporary_folder("health-postgres") as folder:
        server = PostgreSQL(folder / "postgres")
        server.start()
        yield server
        server.abandon()


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    """A broker of our own, that may be frozen and killed."""
    with cache.temporary_folder("health-kafka") as folder:
        broker = Kafka(folder / "kafka")
        broker.start()
        yield broker
        broker.abandon()


@pytest.fixture
def alias(postgres, monkeypatch, django_db_blocker) -> Iterator[str]:
    """Connections to that server, with the timeouts that a service has."""
    timeouts = [f"DATABASE_{name}_SECONDS" for name in ("STATEMENT_TIMEOUT", "CONNECT_TIMEOUT", "IDLE_TRANSACTION")]
    env = SimpleNamespace(**{name.lower(): getattr(settings, name) for name in timeouts})
    env.database_connect_timeout_seconds = 60
    own = ConnectionHandler({"default": {}, "own": base.database(postgres.url("userdb"), env, service="users")})
    monkeypatch.setattr(checks, "connections", own)
    monkeypatch.setattr(probe, "connections", own)
    with django_db_blocker.unblock():
        yield "own"


@contextmanager
def paused(engine) -> Iterator[None]:
    engine.pause()
    try:
        yield
    finally:
        engine.resume()


def examined(*parts: Part) -> dict[str, str]:
    """The states of these parts; asserts that they came in time: what hangs here does so for much longer."""
    began = time.monotonic()
    findings = probe.examine(parts)
    assert time.monotonic() - began < 20
    return {name: finding.state for name, finding in findings.items()}


class TestDatabase:
    def test_suspended_resumed_killed_and_restarted(self, postgres, alias):
        part = Part("database", checks.Database(alias))
        assert examined(part) == {"database": "up"}
        with paused(postgres):
            eventually(lambda: examined(part) == {"database": "down"})
            assert examined(part) == {"database": "down"}
        eventually(lambda: examined(part) == {"database": "up"})
        postgres.kill9()
        assert examined(part) == {"database": "down"}
        postgres.restart()
        eventually(lambda: examined(part) == {"database": "up"})

    @pytest.mark.parametrize(("must_write", "state"), [(True, "down"), (False, "degraded")])
    def test_a_replica_that_accepts_no_writes(self, postgres, alias, must_write, state):
        part = Part("database", checks.Database(alias, must_write=must_write))
        with psycopg.connect(postgres.url("userdb", "postgres"), autocommit=True) as superuser:
            superuser.execute("ALTER DATABASE userdb SET default_transaction_read_only = on")
            assert examined(part) == {"database": state}
            superuser.execute("SET default_transaction_read_only = off")
            superuser.execute("ALTER DATABASE userdb RESET default_transaction_read_only")
            assert examined(part) == {"database": "up"}

    def test_leaves_no_connection_behind(self, postgres, alias):
        part = Part("database", checks.Database(alias))
        for _ in range(5):
            assert examined(part) == {"database": "up"}

        def left() -> int:
            import psycopg

            with psycopg.connect(postgres.url("userdb")) as connection:
                sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'userdb' AND pid <> pg_backend_pid()"
                return connection.execute(sessions).fetchone()[0]

        eventually(lambda: left() == 0)

    def test_does_not_reveal_its_address(self, postgres, alias):
        postgres.kill9()
        try:
            with pytest.raises(ServiceUnavailable) as error:
                checks.Database(alias).run()
        finally:
            postgres.restart()
        assert error.value.message == "does not respond"


class TestBroker:
    @pytest.fixture(params=[AdminClient, Producer])
    def client(self, request, kafka):
        return request.param(
            {"bootstrap.servers": kafka.bootstrap_servers, "reconnect.backoff.max.ms": 100, "log_level": 0}
        )

    def test_suspended_and_resumed(self, kafka, client):
        part = Part("broker", checks.Broker(lambda: client), required=False)
        eventually(lambda: examined(part) == {"broker": "up"})
        with paused(kafka):
            # Its many threads stop one after the other: an answer may still be on its way.
            eventually(lambda: examined(part) == {"broker": "down"})
            assert examined(part) == {"broker": "down"}
        eventually(lambda: examined(part) == {"broker": "up"})

    def test_killed_and_back(self, kafka, client):
        part = Part("broker", checks.Broker(lambda: client))
        eventually(lambda: examined(part) == {"broker": "up"})
        kafka.kill9()
        assert examined(part) == {"broker": "down"}
        kafka.restart()
        eventually(lambda: examined(part) == {"broker": "up"})

    def test_creates_its_own_client_once(self, bootstrap_servers):
        checks._admins.cache_clear()
        try:
            assert examined(Part("broker", checks.Broker())) == {"broker": "up"}
            assert examined(Part("broker", checks.Broker())) == {"broker": "up"}
            assert checks._admins.cache_info().misses == 1
        finally:
            checks._admins.cache_clear()


@pytest.mark.django_db(databases=["users"], transaction=True)
class TestOutbox:
    @pytest.fixture(autouse=True)
    def empty(self):
        yield
        with connections["users"].cursor() as cursor:
            cursor.execute("DELETE FROM outbox")

    def wrote(self, age: timedelta, **more) -> None:
        from django.db.models.functions import Now

        from chassis.messaging.models import OutboxEvent

        values = {"topic": "t", "key": "k", "payload": b"{}", "headers": [], "request_id": ""}
        OutboxEvent.objects.using("users").create(event_id=uuid4(), created_at=Now() - age, **(values | more))

    def test_empty_is_valid(self):
        assert checks.Outbox("users").run() is None

    def test_a_recent_row_is_healthy(self):
        self.wrote(timedelta(seconds=2))
        assert checks.Outbox("users").run() is None

    def test_an_old_row_is_a_warning(self):
        self.wrote(timedelta(minutes=5))
        self.wrote(timedelta(0))
        with pytest.raises(ServiceWarning, match="events have waited for 300 s to be sent"):
            checks.Outbox("users").run()

    def test_sent_and_parked_rows_do_not_count(self):
        from django.db.models.functions import Now

        self.wrote(timedelta(minutes=5), sent_at=Now())
        self.wrote(timedelta(minutes=5), parked_at=Now())
        assert checks.Outbox("users").run() is None


class TestLoopAndMembership:
    def test_a_running_loop_is_live(self):
        heart = Heartbeat("test")
        heart.beat()
        assert checks.Loop(heart, within=5).run() is None
        assert heart.age() < 5

    def test_a_stuck_loop_is_not_live(self, monkeypatch):
        heart = Heartbeat("test")
        monkeypatch.setattr(heart, "last", time.monotonic() - 60)
        with pytest.raises(ServiceUnavailable, match="has been stuck for 60 s"):
            checks.Loop(heart, within=5).run()

    def test_a_slow_handler_is_live(self, monkeypatch, settings):
        settings.HANDLER_TIMEOUT_SECONDS = 100
        heart = Heartbeat("test")
        monkeypatch.setattr(heart, "last", time.monotonic() - 150)
        assert checks.Loop(heart).run() is None

    def test_a_handler_with_a_limit_of_its_own_is_live(self, monkeypatch):
        own = Handler(Event, lambda received: None, timeout=100)
        monkeypatch.setattr(checks, "handlers", lambda: {"some.event": own})
        heart = Heartbeat("test")
        monkeypatch.setattr(heart, "last", time.monotonic() - 150)
        assert checks.Loop(heart).run() is None
        monkeypatch.setattr(heart, "last", time.monotonic() - 250)
        with pytest.raises(ServiceUnavailable):
            checks.Loop(heart).run()

    def test_membership_follows_the_loop(self):
        heart = Heartbeat("test")
        with pytest.raises(ServiceUnavailable):
            checks.Membership(heart).run()
        heart.joined.set()
        assert checks.Membership(heart).run() is None
        heart.joined.clear()
        with pytest.raises(ServiceUnavailable):
            checks.Membership(heart).run()

    def test_a_dependency_that_the_loop_waits_for_is_down(self):
        heart, broker = Heartbeat("test"), Dependency("dead-letter topic", part="broker")
        heart.watch(Dependency("database"), broker)
        answers = checks.Membership(heart)
        heart.joined.set()
        assert checks.Awaited("broker", answers, heart).run() is None
        broker.failed(OSError("closed"))
        with pytest.raises(ServiceUnavailable, match="the loop waits for it"):
            checks.Awaited("broker", answers, heart).run()
        assert checks.Awaited("database", answers, heart).run() is None
        broker.answered()
        assert checks.Awaited("broker", answers, heart).run() is None


class TestRegistry:
    @pytest.mark.parametrize(
        ("service_database", "names", "required"),
        [("users", ["database", "outbox", "broker"], ["database"]), (None, ["broker"], [])],
    )
    def test_a_web_process_requires_only_its_database(self, settings, service_database, names, required):
        settings.SERVICE_DATABASE = service_database
        found = registry.parts()
        assert [part.name for part in found] == names
        assert [part.name for part in found if part.required] == required

    def test_a_process_without_events_needs_nothing(self, settings):
        settings.SERVICE_DATABASE = None
        del settings.KAFKA_TOPIC_PARTITIONS
        assert registry.parts() == []

    def test_a_worker_requires_all_parts(self):
        found = registry.worker(Heartbeat("test"))
        assert [part.name for part in found] == ["loop", "group", "database", "broker"]
        assert all(part.required for part in found)
