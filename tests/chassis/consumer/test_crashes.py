"""The metadata of committed offsets in which the guard records crashes, on a real broker."""

import uuid

import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from chassis.consumer import crashes
from chassis.consumer.backlog import Backlog
from chassis.consumer.crashes import CAREFUL_AFTER, TRIES, WINDOW, CrashGuard, Memory
from chassis.kafka import offset_metadata, topic_reader
from tests.chassis.support.kafka_helpers import new_topic, servers
from tests.chassis.support.records import record


class TestMemory:
    """Text of at most 4,096 bytes, which anything may have written."""

    @given(
        st.one_of(
            st.none(), st.text(), st.sampled_from(['{"starts": "x"}', "[]", "7", '{"suspects": 1}', '{"trying": []}'])
        )
    )
    def test_foreign_offsets_are_ignored(self, text):
        assert Memory.of(text).starts in (0, Memory.of(text).starts)

    @given(st.integers(0, 1000), st.dictionaries(st.integers(0, 2**60), st.integers(1, 5), max_size=200))
    def test_is_redriven_unchanged_and_fits(self, starts, suspects):
        text = offset_metadata.dump(Memory(0, suspects).to_metadata(starts))
        assert len(text or "") <= 4_096
        again = Memory.of(text)
        assert again.starts == starts
        assert again.suspects.items() <= suspects.items()
        assert len(again.suspects) == min(50, len(suspects))

    def test_records_in_process_are_suspects_again(self):
        assert Memory.of(offset_metadata.dump(Memory(0, {7: 1}).to_metadata(2, trying=7))).suspects == {7: 2}
        assert Memory.of(offset_metadata.dump(Memory(0, {7: 1}).to_metadata(2, trying=9))).suspects == {7: 1, 9: 1}


class Life:
    """One life of a process that owns a partition from an offset on, and ends without a word."""

    def __init__(self, topic: str, group: str, *, same_process: bool) -> None:
        if not same_process:
            crashes._noted.clear()
        self.place = TopicPartition(topic, 0)
        self.client = Consumer(servers() | {"group.id": group, "enable.auto.commit": False})
        self.backlog = Backlog()
        self.guard = CrashGuard(self.client, self.backlog)
        self.guard.assigned(self.told())
        self.topic = topic

    def told(self):
        """What the group has committed, once its coordinator is there."""
        return topic_reader.settled(lambda: self.client.committed([self.place], timeout=10))

    def receive(self, *offsets: int):
        records = [record(offset, f"k{offset}", topic=self.topic) for offset in offsets]
        for one in records:
            self.guard.received(one)
            self.backlog.add(one)
        return records

    def handle(self, batch) -> None:
        """A batch that is handled, as the consumer does it."""
        assert self.guard.begin(batch) == "handle"
        self.backlog.finish(batch)
        self.guard.end()
        if offsets := self.backlog.offsets():
            self.client.commit(offsets=[TopicPartition(*p, o) for p, o in offsets.items()], asynchronous=False)

    def committed(self):
        [found] = self.told()
        return found.offset, found.metadata or ""


@pytest.fixture
def live():
    topic, group, lives = new_topic("crash", partitions=1), f"g-{uuid.uuid4()}", []

    def begin(*, same_process: bool = False) -> Life:
        lives.append(Life(topic, group, same_process=same_process))
        return lives[-1]

    yield begin
    for life in lives:
        life.client.close()


def batch(life: Life, *offsets: int):
    return life.backlog.take(500, 0.0) if life.receive(*offsets) else []


def test_a_run_with_progress_resets_the_count(live):
    first = live()
    first.handle(batch(first, 0, 1, 2))
    assert first.committed() == (3, "")


def test_crashes_in_the_first_batch_are_counted_and_single_records_find_the_culprit(live):
    """Offset 2 ends the process; the others are innocent."""
    for starts in range(CAREFUL_AFTER):
        life = live()
        assert life.guard.begin(taken := batch(life, 0, 1, 2, 3)) == "handle"
        assert len(taken) == 4
        assert life.committed() == (0, offset_metadata.dump(Memory().to_metadata(starts + 1)))
    for ends in range(TRIES):
        life = live()
        ours = [offset for offset in (0, 1, 2, 3) if offset >= life.committed()[0]]
        life.receive(*ours)
        while (taken := life.backlog.take(500, 0.0))[0].offset < 2:
            assert len(taken) == 1
            life.handle(taken)
        assert [one.offset for one in taken] == [2]
        assert life.guard.crash_count(taken[0]) == ends
        assert life.guard.begin(taken) == "handle"
    last = live()
    last.receive(2, 3)
    [culprit] = last.backlog.take(500, 0.0)
    assert last.guard.begin([culprit]) == "dead-letter"
    last.backlog.finish([culprit])
    last.handle(last.backlog.take(500, 0.0))
    assert last.committed()[0] == 4
    assert not live().guard._watched[last.topic, 0].careful_below


def test_a_process_that_exits_by_an_exception_keeps_the_count(live):
    life = live()
    assert life.guard.begin(batch(life, 0, 1)) == "handle"
    life.guard.mark_as_crash()
    life.guard.leave([(life.topic, 0)])
    assert life.committed() == (0, offset_metadata.dump(Memory().to_metadata(1)))


def test_a_fenced_worker_reports_no_suspects(live):
    """The same process begins anew, and finds its own notes: of the start, and of the event that it was trying."""
    for _ in range(CAREFUL_AFTER + 3):
        life = live(same_process=True)
        assert not life.guard._watched[life.topic, 0].careful_below
        life.guard.begin(batch(life, 0, 1))
    for _ in range(CAREFUL_AFTER):
        life = live()
        life.guard.begin(batch(life, 0, 1))
    for _ in range(TRIES + 2):
        life = live(same_process=True)
        life.receive(0, 1)
        taken = life.backlog.take(500, 0.0)
        assert (life.guard.begin(taken), life.guard.crash_count(taken[0])) == ("handle", 0)


def test_a_clean_exit_resets_the_count_of_starts(live):
    for _ in range(5):
        life = live()
        life.guard.begin(batch(life, 0, 1))
        life.guard.leave([(life.topic, 0)])
        assert life.committed() == (0, "")


def test_a_retried_event_that_holds_the_offset_is_no_suspect_and_later_ones_are_found(live):
    """Offset 0 fails each time it is tried, and lives; offset 1 ends the process."""
    for _ in range(CAREFUL_AFTER):
        live_one = live()
        live_one.guard.begin(batch(live_one, 0, 1, 2))
    for ends in range(TRIES):
        life = live()
        life.receive(0, 1, 2)
        [held] = life.backlog.take(500, 0.0)
        assert life.guard.begin([held]) == "handle"
        life.backlog.fail(held, 1e9)
        life.guard.end()
        [culprit] = life.backlog.take(500, 0.0)
        assert (culprit.offset, life.guard.crash_count(culprit)) == (1, ends)
        assert life.guard.begin([culprit]) == "handle"
    life = live()
    held, culprit, _ = life.receive(0, 1, 2)
    assert life.guard.crash_count(held) == 0
    assert life.guard.begin([culprit]) == "dead-letter"


def test_caution_grows_with_each_start_without_progress(live):
    first = live()
    first.client.commit(offsets=[TopicPartition(first.topic, 0, 0)], asynchronous=False)
    for starts in range(CAREFUL_AFTER + 3):
        life = live()
        reach = life.guard._watched[life.topic, 0].careful_below
        assert reach == (0 if starts < CAREFUL_AFTER else WINDOW * 2 ** (starts - CAREFUL_AFTER))
        [first] = life.receive(0)
        life.backlog.take(1, 0.0)
        life.backlog.fail(first, 1e9)
        life.guard.begin([record(10**6, topic=life.topic)])
