"""The inbox identifies events by source, id and topic, and two consumers with the same events never deadlock."""

import random
import threading
import uuid
from typing import ClassVar

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.consumer import consumer as consumer_module
from chassis.consumer import inbox, inbox_key
from chassis.consumer.consumer import Consumer
from chassis.events.event import Event
from chassis.events.registry import Handler, Received
from chassis.kafka import names
from chassis.messaging.models import InboxEvent, OutboxEvent
from tests.chassis.support.kafka_helpers import committed, make_topic, new_topic, send
from tests.chassis.support.loops import running
from tests.chassis.support.sessions import session
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


def received(event_id="1", topic="t", source="/a") -> Received:
    model = type("Told", (Event,), {"topic": topic, "__annotations__": {"topic": ClassVar[str]}})
    return Received(model(), event_id, "k", "r", source=source)


def claim(*events: Received) -> set[tuple[str, str, str]]:
    with transaction.atomic(using="users"):
        return inbox.claim(events, "SELECT 1")


def execute(sql, *values):
    with connections["users"].cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def from_source(scene, source: str | None, number: int, event_id="the-same"):
    key, value, headers = scene.event(number, event_id=event_id)
    return key, value, [*headers, *([("ce_source", source)] if source else [])]


class TestConsumer:
    def test_the_same_id_from_two_sources_is_two_events(self, scene):
        scene.send(from_source(scene, "/a", 1), from_source(scene, "/b", 2), from_source(scene, None, 3))
        with running(Consumer):
            eventually(lambda: len(scene.handled) == 3)
            scene.send(*(from_source(scene, source, 4) for source in ("/a", "/b", None)), scene.event(5))
            eventually(lambda: scene.numbers("k")[-1:] == [5])
        assert scene.numbers("k") == [1, 2, 3, 5]
        assert set(InboxEvent.objects.filter(event_id="the-same").values_list("source", flat=True)) == {
            "/a",
            "/b",
            "no source",
        }

    def test_the_same_event_on_two_topics_goes_to_both_handlers_once_each(self, scene, monkeypatch):
        other = new_topic("other")
        make_topic(names.dead_letter_topic(other, scene.group))
        seen = []
        handlers = dict(consumer_module.registered())
        model = type("Other", (handlers[scene.topic].event,), {"topic": other, "__annotations__": {}})
        handlers[other] = Handler(model, lambda received: seen.extend(one.event.number for one in received))
        monkeypatch.setattr(consumer_module, "registered", lambda: handlers)
        for topic in (scene.topic, other) * 2:
            send(topic, from_source(scene, "/a", 1))
        send(other, from_source(scene, "/a", 2, "another"))
        scene.send(from_source(scene, "/a", 2, "another"))
        with running(Consumer):
            eventually(lambda: scene.numbers("k")[-1:] == [2] and seen[-1:] == [2])
        assert (scene.numbers("k"), seen) == ([1, 2], [1, 2])

    @pytest.mark.parametrize("event_id", ["x" * 3_000, b"a\0b", b"\xff"])
    def test_an_id_that_cannot_be_stored_is_dead_lettered_and_blocks_nothing(self, scene, event_id):
        scene.send(from_source(scene, "/a", 1, event_id), scene.event(2))
        with running(Consumer):
            eventually(lambda: scene.handled)
            [dead] = eventually(lambda: list(OutboxEvent.objects.filter(topic=scene.dead_letter_topic)))
            eventually(lambda: committed(scene) == 2)
        assert scene.numbers("k") == [2]
        assert dict(dead.headers)["deadletter-reason"] == "unreadable"
        assert "ce_id" in dict(dead.headers)["deadletter-error"]


IDENTITIES = st.tuples(
    st.sampled_from("123"), st.sampled_from("tu"), st.sampled_from(["/a", "/b", "/a/b", "no source"])
)


class TestClaim:
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.lists(IDENTITIES, max_size=6), max_size=5))
    def test_each_identity_is_new_once_and_no_other_hides_it(self, batches):
        InboxEvent.objects.all().delete()
        known: set[tuple[str, str, str]] = set()
        for batch in batches:
            assert claim(*(received(*one) for one in batch)) == set(batch) - known
            known |= set(batch)
        assert set(InboxEvent.objects.values_list("event_id", "topic", "source")) == known

    def test_a_row_without_source_matches_any_source(self):
        InboxEvent.objects.create(event_id="1", topic="t", key="k", request_id="r")
        assert claim(received("1", "t", "/a"), received("1", "u", "/a"), received("2", "t", "/a")) == {
            ("1", "u", "/a"),
            ("2", "t", "/a"),
        }
        InboxEvent.objects.filter(source="").delete()
        assert claim(received("1", "t", "/a")) == {("1", "t", "/a")}

    @pytest.mark.parametrize("known_from_before", [0, 20])
    def test_consumers_with_the_same_events_in_any_order_never_deadlock(self, known_from_before):
        identities = [(f"{n:03}", topic, source) for n in range(40) for topic in "tu" for source in ("/a", "/b")]
        for n in range(known_from_before):
            InboxEvent.objects.create(event_id=f"{n:03}", topic="t", key="k", request_id="r")
        rounds, claimed, errors = 15, [], []

        def work(seed: int) -> None:
            try:
                for turn in range(rounds):
                    mine = [received(f"{turn}-{id}" if turn else id, topic, source) for id, topic, source in identities]
                    random.Random(seed * turn).shuffle(mine)
                    claimed.extend(claim(*mine))
            except Exception as error:
                errors.append(error)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(claimed) == len(set(claimed)) == rounds * len(identities) - 2 * known_from_before


KEY = "SELECT conname FROM pg_constraint WHERE conrelid = 'inbox'::regclass AND contype = 'p'"


class TestKey:
    """The old key is dropped when no consumer of the previous version has written for an hour."""

    @pytest.fixture
    def before(self):
        """As migration 0008 leaves a table that has rows."""
        execute("ALTER TABLE inbox DROP CONSTRAINT inbox_identity, ADD CONSTRAINT inbox_pkey PRIMARY KEY (event_id)")
        execute("CREATE UNIQUE INDEX inbox_identity ON inbox (event_id, topic, source)")
        execute("UPDATE django_migrations SET applied = now() - interval '2 hours' WHERE app = 'messaging'")
        yield
        execute("DELETE FROM inbox")
        inbox_key.replace()
        assert execute(KEY) == [("inbox_identity",)]

    def test_a_new_database_has_the_new_trigger(self):
        assert execute(KEY) == [("inbox_identity",)]
        assert inbox_key.replace() is False
        assert execute("SELECT name FROM django_migrations WHERE name = %s", inbox_key.MIGRATION)

    def test_until_then_the_id_alone_identifies_the_event(self, before):
        assert claim(received("1", "t", "/a")) == {("1", "t", "/a")}
        assert claim(received("1", "t", "/b"), received("2", "t", "/b")) == {("2", "t", "/b")}

    def test_is_renewed_when_it_fails(self, before):
        claim(received("1", "t", "/a"))
        execute(
            "INSERT INTO inbox (event_id, topic, key, request_id, consumed_at) VALUES ('0', 't', 'k', 'r', now() - interval '61 min')"
        )
        assert inbox_key.replace() is True
        assert claim(received("1", "t", "/b"), received("0", "t", "/b")) == {("1", "t", "/b")}

    def test_stays_while_a_consumer_of_the_version_before_writes(self, before):
        execute("INSERT INTO inbox (event_id, topic, key, request_id) VALUES ('0', 't', 'k', 'r')")
        assert inbox_key.replace() is False

    def test_stays_for_an_hour_in_which_nobody_writes(self, before):
        execute("UPDATE django_migrations SET applied = now() - interval '50 min' WHERE name = %s", inbox_key.MIGRATION)
        assert inbox_key.replace() is False
        execute("UPDATE django_migrations SET applied = now() - interval '2 hours' WHERE app = 'messaging'")

    def test_a_busy_table_keeps_the_index_for_now(self, before):
        with session(autocommit=False) as reader:
            reader.execute("SELECT 1 FROM inbox")
            assert inbox_key.replace() is False
        assert execute(KEY) == [("inbox_pkey",)]

    def test_the_relay_runs_it(self, before, settings):
        from chassis.workers.housekeeping import housekeeping

        settings.PURGE_EVERY_SECONDS = 0.05
        with housekeeping(lambda: True):
            eventually(lambda: execute(KEY) == [("inbox_identity",)])
        assert claim(received(str(uuid.uuid4())))
