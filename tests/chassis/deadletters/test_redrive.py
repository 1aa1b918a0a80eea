"""Redriving and discarding on a real broker: each dead letter exactly once, whatever happens in between."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs

from chassis.deadletters import redrive, store
from chassis.deadletters.store import Store, Wanted
from chassis.kafka import clients, names
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.kafka.writer import Outbound, RecordRefused, Writer
from chassis.runtime.failures import DependencyDown
from tests.chassis.support import dead_letters
from tests.chassis.support.kafka_helpers import headers, limit_batches, make_topic, servers
from tests.waiting import eventually

# confluent-kafka's word about a producer that was fenced; pytest shows what the code under test does not.
pytestmark = pytest.mark.filterwarnings("ignore:Producer abort_transaction failed during close")


@pytest.fixture(autouse=True)
def consumed(scene, monkeypatch, settings) -> None:
    settings.SERVICE_DATABASE = None
    monkeypatch.setattr(store, "registered", lambda: {scene.topic: None})


def run(action="redriven", wanted=None, **more) -> redrive.Result:
    return redrive.Run(action=action, wanted=wanted or Wanted(), by="ada", patience=Patience(30), **more).run()


def unresolved() -> list[str]:
    return [letter.id for letter in Store(Patience(30)).unresolved(Wanted())]


def test_restores_value_key_and_headers_and_names_the_dead_letter(scene):
    sent = [
        dead_letters.failed(scene.topic, 1, key=b"k1", value=b'{"number": 1}'),
        dead_letters.unreadable(scene.topic, 2, key=b"\xff\x00"),
        dead_letters.failed(scene.topic, 3, key=None, value=None),
        dead_letters.failed(scene.topic, 4, key=b"", value=b""),
    ]
    ids = dead_letters.write(scene.dead_letter_topic, *sent)
    with capture_logs() as logs:
        assert sorted(run().done) == sorted(ids)

    back = {headers(message)["deadletter-redriven"]: message for message in dead_letters.everything(scene.topic)}
    assert set(back) == set(ids)
    for one in sent:
        message = back[one.id]
        assert (message.key(), message.value()) == (one.record.key, one.record.value)
        assert message.headers() == [
            *one.record.headers,
            ("deadletter-redriven", one.id.encode()),
            ("deadletter-redriven-for", scene.group.encode()),
        ]
    assert unresolved() == []
    said = [line for line in logs if line["event"] == "dead letter redriven"]
    assert {(line["deadletter_id"], line["by"]) for line in said} == {(one, "ada") for one in ids}


def test_dead_letters_of_a_key_are_redriven_in_order(scene):
    dead_letters.write(
        scene.dead_letter_topic,
        *(dead_letters.failed(scene.topic, n, key=f"k{n % 3}".encode(), value=str(n).encode()) for n in range(60)),
    )
    run(rate=2_000)
    back = [(message.key(), int(message.value())) for message in dead_letters.everything(scene.topic)]
    for key in (b"k0", b"k1", b"k2"):
        assert [number for k, number in back if k == key] == [n for n in range(60) if f"k{n % 3}".encode() == key]


def long_ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat()


def test_events_that_may_be_purged_from_the_inbox_need_force(scene, settings):
    settings.SERVICE_DATABASE, settings.INBOX_RETENTION_HOURS = "users", 336
    [old] = dead_letters.write(scene.dead_letter_topic, dead_letters.failed(scene.topic, 1), at=long_ago(337))
    [young] = dead_letters.write(scene.dead_letter_topic, dead_letters.failed(scene.topic, 2), at=long_ago(335))
    result = run()
    assert (result.done, result.forgotten, unresolved()) == ([young], [old], [old])
    assert run("discarded", Wanted(ids=frozenset(["other"]))).forgotten == []
    assert run(force=True).done == [old]
    assert dead_letters.redriven(scene.topic) == {old: 1, young: 1}


def test_discarding_does_not_consult_the_inbox_and_a_service_without_one_redrives_everything(scene, settings):
    dead_letters.write(scene.dead_letter_topic, dead_letters.failed(scene.topic, 1), at=long_ago(700))
    [second] = dead_letters.write(
        scene.dead_letter_topic, dead_letters.failed(scene.topic, 2, key=b"other"), at=long_ago(700)
    )
    settings.SERVICE_DATABASE = "users"
    assert len(run("discarded", Wanted(keys=frozenset(["k"]))).done) == 1
    settings.SERVICE_DATABASE = None
    assert run().done == [second]


def test_discarding_writes_who_and_when_and_nothing_else(scene):
    ids = dead_letters.write(
        scene.dead_letter_topic, dead_letters.failed(scene.topic, 1), dead_letters.failed(scene.topic, 2)
    )
    with capture_logs() as logs:
        assert run("discarded", Wanted(ids=frozenset(ids[:1]))).done == ids[:1]

    assert dead_letters.everything(scene.topic) == []
    assert unresolved() == ids[1:]
    resolution = Store(Patience(30)).resolutions()[ids[0]]
    assert (resolution.action, resolution.by) == ("discarded", "ada")
    assert resolution.at.endswith("Z")
    [line] = [line for line in logs if line["event"] == "dead letter discarded"]
    assert (line["by"], line["deadletter_id"], line["event_id"]) == ("ada", ids[0], "event-1")
    assert run(wanted=Wanted(ids=frozenset(ids[:1]))).done == [], "what is discarded is not redriven"


def test_a_dead_letter_that_the_relay_sent_twice_is_one(scene):
    one = dead_letters.failed(scene.topic, 1)
    dead_letters.write(scene.dead_letter_topic, one, one)
    assert unresolved() == [one.id]
    run()
    dead_letters.write(scene.dead_letter_topic, one)  # and once more, afterwards
    assert run().done == []
    assert dead_letters.redriven(scene.topic) == {one.id: 1}


def test_a_limit_and_then_the_rest(scene):
    ids = dead_letters.write(scene.dead_letter_topic, *(dead_letters.failed(scene.topic, n) for n in range(250)))
    assert run(limit=120).done == ids[:120]
    assert run(limit=1).done == ids[120:121]
    assert run().done == ids[121:]
    assert dead_letters.redriven(scene.topic) == dict.fromkeys(ids, 1)


def test_the_rate_is_respected(scene):
    dead_letters.write(scene.dead_letter_topic, *(dead_letters.failed(scene.topic, n) for n in range(30)))
    started = time.monotonic()
    assert len(run(rate=20).done) == 30
    assert time.monotonic() - started >= 1.45


def test_stopping_keeps_the_completed_batches(scene):
    ids = dead_letters.write(scene.dead_letter_topic, *(dead_letters.failed(scene.topic, n) for n in range(30)))
    begun = redrive.Result()
    result = run(rate=50, stop=lambda: len(begun.done) >= 10, result=begun)
    assert (result.stopped, result.done) == (True, ids[:10])
    assert unresolved() == ids[10:]


def test_a_record_that_the_broker_rejects_stays_and_the_others_are_sent(scene):
    limit_batches(scene.topic, 20_000)
    too_large = dead_letters.failed(scene.topic, 2, value=os.urandom(200_000))
    ids = dead_letters.write(
        scene.dead_letter_topic, dead_letters.failed(scene.topic, 1), too_large, dead_letters.failed(scene.topic, 3)
    )
    result = run()
    assert result.done == [ids[0], ids[2]]
    assert list(result.refused) == [too_large.id]
    assert unresolved() == [too_large.id]
    assert dead_letters.redriven(scene.topic) == {ids[0]: 1, ids[2]: 1}


def test_reports_why_nothing_was_written(scene, monkeypatch):
    gone = f"{scene.topic}-gone"
    monkeypatch.setattr(store, "registered", lambda: {gone: None})
    make_topic(names.dead_letter_topic(gone, scene.group), partitions=1)
    [letter_id] = dead_letters.write(names.dead_letter_topic(gone, scene.group), dead_letters.failed(gone, 1))
    with pytest.raises(DependencyDown, match=r"nothing was written: .*[Uu]nknown topic"):
        run()
    assert unresolved() == [letter_id]


class TestWanted:
    """Every filter, and combinations."""

    @pytest.fixture
    def ids(self, scene) -> list[str]:
        t = scene.topic
        old = dead_letters.write(
            scene.dead_letter_topic,
            dead_letters.failed(t, 0, key=b"a"),
            dead_letters.unreadable(t, 1, key=b"b"),
            at="2026-01-01T10:00:00Z",
        )
        new = dead_letters.write(
            scene.dead_letter_topic,
            dead_letters.failed(t, 2, key=b"a"),
            dead_letters.unreadable(t, 3, key=b"a"),
            at="2026-01-02T10:00:00Z",
        )
        return old + new

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ({}, {0, 1, 2, 3}),
            ({"keys": frozenset({"a"})}, {0, 2, 3}),
            ({"reasons": frozenset({"unreadable"})}, {1, 3}),
            ({"reasons": frozenset({"unreadable", "handler"})}, {0, 1, 2, 3}),
            ({"keys": frozenset({"a"}), "reasons": frozenset({"unreadable"})}, {3}),
            ({"topics": frozenset({"another"})}, set()),
            ({"since": "2026-01-01T10:00:00.001+00:00"}, {2, 3}),
            ({"until": "2026-01-02T10:00:00+00:00"}, {0, 1}),
            (
                {"since": "2026-01-01T10:00:00+00:00", "until": "2026-01-02T12:00:00+02:00", "keys": frozenset({"b"})},
                {1},
            ),
            ({"reasons": frozenset({"timeout"})}, set()),
        ],
    )
    def test_combinations(self, ids, said, expected):
        from datetime import datetime

        said = {
            name: datetime.fromisoformat(value) if isinstance(value, str) else value for name, value in said.items()
        }
        found = {letter.id for letter in Store(Patience(30)).unresolved(Wanted(**said))}
        assert found == {ids[n] for n in expected}

    def test_ids(self, ids):
        wanted = Wanted(ids=frozenset(ids[1:3]))
        assert sorted(run(wanted=wanted).done) == sorted(ids[1:3])
        assert sorted(unresolved()) == sorted([ids[0], ids[3]])


class TestExactlyOnce:
    """Killed, run twice, and overtaken."""

    def test_killed_repeatedly(self, scene):
        """200 letters; a process that redrives them is killed -9 in the middle, three times."""
        ids = dead_letters.write(
            scene.dead_letter_topic,
            *(dead_letters.failed(scene.topic, n, key=f"k{n % 9}".encode()) for n in range(200)),
        )
        for _ in range(3):
            enough = len(dead_letters.redriven(scene.topic)) + 20
            process = dead_letters.start(scene.group, scene.topic, "redrive", "--all", "--rate", "40")
            eventually(lambda enough=enough: len(dead_letters.redriven(scene.topic)) >= enough, within=60)
            process.kill()
            process.communicate()
        before = len(dead_letters.redriven(scene.topic))
        assert 60 <= before < 200, "it was in the middle"
        process = dead_letters.start(scene.group, scene.topic, "redrive", "--all", "--by", "ada")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == f"{200 - before} dead letters redriven\n"
        assert dead_letters.redriven(scene.topic) == dict.fromkeys(ids, 1)
        assert unresolved() == []

    def test_the_open_transaction_of_a_dead_producer_has_no_effect(self, scene, settings):
        settings.KAFKA_TRANSACTION_TIMEOUT_SECONDS = 60
        ids = dead_letters.write(scene.dead_letter_topic, dead_letters.failed(scene.topic, 1))
        died = clients.transactional_producer(f"{scene.group}-deadletters")
        died.init_transactions(30)
        died.begin_transaction()
        died.produce(scene.topic, b"{}", b"k", headers=[("deadletter-redriven", ids[0])])
        died.flush(10)
        assert run().done == ids
        assert dead_letters.redriven(scene.topic) == {ids[0]: 1}

    def test_two_at_once(self, scene):
        ids = dead_letters.write(
            scene.dead_letter_topic,
            *(dead_letters.failed(scene.topic, n, key=f"k{n % 9}".encode()) for n in range(200)),
        )
        results = [redrive.Result(), redrive.Result()]
        with ThreadPoolExecutor() as side_by_side:
            for ended in [side_by_side.submit(run, result=result, rate=200) for result in results]:
                ended.result(90)
        assert sorted(results[0].done + results[1].done) == sorted(ids)
        assert dead_letters.redriven(scene.topic) == dict.fromkeys(ids, 1)
        assert unresolved() == []

    def test_the_last_one_writes(self, scene):
        one, record = dead_letters.failed(scene.topic, 1), Outbound(scene.topic, b"k", b"{}", [])
        with Writer(f"{scene.group}-deadletters", Patience(30)) as first:
            first.write([record])
            with Writer(f"{scene.group}-deadletters", Patience(30)) as second:
                with pytest.raises(Fenced):
                    first.write([record])
                second.write([record])
        assert len(dead_letters.everything(scene.topic)) == 2, one.id

    def test_a_decision_of_an_open_transaction_is_waited_for(self, scene):
        """A consumer of payments writes letters in transactions; while one is open, later records are hidden from readers."""
        [one] = [dead_letters.failed(scene.topic, 1)]
        dead_letters.write(scene.dead_letter_topic, one)
        stored = next(Store(Patience(30)).unresolved(Wanted()))
        other = Producer({**servers(), "transactional.id": f"{scene.group}-0", "transaction.timeout.ms": 60_000})
        other.init_transactions(30)
        other.begin_transaction()
        other.produce(scene.dead_letter_topic, b"{}", b"x", stored.record.partition)
        other.flush(10)
        first = redrive.Run(action="redriven", wanted=Wanted(), by="ada", patience=Patience(30))
        with Writer(f"{scene.group}-deadletters", Patience(30)) as writer:
            first._decide(writer, [stored])  # it had read before the other began
        assert unresolved() == [one.id], "hidden from those who only look"

        results: list[redrive.Result] = []
        second = threading.Thread(target=lambda: results.append(run()))
        second.start()
        second.join(2)
        assert second.is_alive(), "it does not decide before it has seen all"
        other.abort_transaction(30)
        second.join(60)
        assert [result.done for result in results] == [[]]
        assert dead_letters.redriven(scene.topic) == {one.id: 1}

    def test_it_times_out(self, scene):
        dead_letters.write(scene.dead_letter_topic, dead_letters.failed(scene.topic, 1))
        other = Producer({**servers(), "transactional.id": f"{scene.group}-0", "transaction.timeout.ms": 60_000})
        other.init_transactions(30)
        other.begin_transaction()
        other.produce(scene.dead_letter_topic, b"{}", b"x", 0)
        other.flush(10)
        impatient = redrive.Run(action="redriven", wanted=Wanted(), by="ada", patience=Patience(1.5))
        with pytest.raises(DependencyDown, match="open"):
            impatient.run()
        other.abort_transaction(30)
        assert dead_letters.redriven(scene.topic) == {}


def test_a_rejected_writer_has_written_nothing(scene, settings):
    settings.KAFKA_TRANSACTION_TIMEOUT_SECONDS = 60  # also the time after which the client gives up the last record
    small, large = Outbound(scene.topic, b"k", b"{}", []), Outbound(scene.topic, b"k", os.urandom(2_000_000), [])
    with Writer("one", Patience(30)) as writer:
        with pytest.raises(RecordRefused) as refused:
            writer.write([small, large, small])
        assert refused.value.index == 1
        writer.write([small])
    assert len(dead_letters.everything(scene.topic)) == 1


def test_without_a_broker_it_reports_it_in_time(settings):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    for attempt in (
        lambda: Store(Patience(2, 2)),
        lambda: redrive.Run(action="discarded", wanted=Wanted(), by="ada", patience=Patience(2)).run(),
    ):
        started = time.monotonic()
        with pytest.raises(DependencyDown):
            attempt()
        assert time.monotonic() - started < 20


def test_a_foreign_record_is_identified_by_its_offset_and_can_be_redriven(scene):
    from tests.chassis.support.kafka_helpers import send

    send(scene.dead_letter_topic, (b"k", b'{"by": "hand"}', []))
    [one] = unresolved()
    assert one.startswith(f"{scene.dead_letter_topic}:")
    run()
    [message] = dead_letters.everything(scene.topic)
    assert json.loads(message.value()) == {"by": "hand"}
    assert unresolved() == []
    assert eventually(lambda: Store(Patience(30)).resolutions()[one].action) == "redriven"
