"""The backlog of the consumer: order per key, waiting events, and committable offsets."""

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.consumer.backlog import Backlog, PartitionOffsets
from tests.chassis.support.records import record

SOURCE = ("user.created", 0)


class TestPartitionOffsets:
    def test_commits_up_to_the_oldest_unfinished(self):
        offsets = PartitionOffsets()
        for offset in (5, 6, 9):  # offsets have gaps: transaction markers, compaction
            offsets.add(offset)
        offsets.finish(6)
        assert offsets.committable is None
        offsets.finish(5)
        assert offsets.committable == 7
        offsets.finish(9)
        assert offsets.committable == 10

    def test_computes_committable_offsets(self):
        offsets = PartitionOffsets()
        for offset in range(4):
            offsets.add(offset)
        offsets.finish(1)
        assert offsets.committable_with({0}) == 2
        assert offsets.committable_with({2}) is None
        assert offsets.committable is None


class TestTake:
    def test_takes_in_order_up_to_the_limit(self):
        backlog = Backlog()
        records = [record(n, key=str(n)) for n in range(5)]
        for one in records:
            backlog.add(one)
        assert backlog.take(3, now=0) == records[:3]
        assert backlog.take(3, now=0) == records[3:]

    def test_blocked_keys_stop_and_others_proceed(self):
        backlog = Backlog()
        bad, other, later = record(0, "bad"), record(1, "other"), record(2, "bad")
        for one in (bad, other):
            backlog.add(one)
        assert backlog.take(1, now=0) == [bad]
        backlog.fail(bad, retry_at=10)
        backlog.add(later)
        assert backlog.take(10, now=5) == [other]
        assert backlog.take(10, now=5) == []
        assert backlog.held(SOURCE) == (2, 20)

    def test_after_its_retry_a_key_resumes_where_it_stopped(self):
        backlog = Backlog()
        bad, waiting, newer = record(0, "bad"), record(1, "bad"), record(2, "bad")
        backlog.add(bad)
        backlog.add(waiting)
        backlog.take(1, now=0)
        backlog.fail(bad, retry_at=10)
        backlog.add(newer)
        assert backlog.take(10, now=10) == [bad]
        backlog.finish([bad])
        assert backlog.take(10, now=10) == [waiting, newer]
        assert backlog.held(SOURCE) == (0, 0)

    def test_long_waiting_events_do_not_block_other_keys(self):
        backlog = Backlog()
        bad = [record(n, "bad") for n in range(1_000)]
        backlog.add(bad[0])
        backlog.take(1, now=0)
        backlog.fail(bad[0], retry_at=10)
        for one in bad[1:]:
            backlog.add(one)
        backlog.finish(backlog.take(1, now=10))
        assert backlog.next_due() == 0.0, "there is something to do now"

        went_on, offset = [], len(bad)
        while len(backlog):
            room = 10 - backlog.fresh if len(went_on) < 500 else 0
            arrived = [record(offset + n, f"other{n}") for n in range(room)]
            offset += len(arrived)
            for one in arrived:
                backlog.add(one)
            batch = backlog.take(10, now=11)
            assert [one for one in batch if one in arrived][:5] == arrived[:5], "at least every second place is theirs"
            went_on += [one for one in batch if one.key_queue == bad[0].key_queue]
            backlog.finish(batch)
        assert went_on == bad[1:], "also while as many others arrive as can be taken"
        assert backlog.offsets() == {SOURCE: offset}

    def test_a_key_that_fails_again_when_resumed_waits_again(self):
        backlog = Backlog()
        bad = [record(n, "bad") for n in range(9)]
        for one in bad:
            backlog.add(one)
        [first] = backlog.take(1, now=0)
        backlog.fail(first, retry_at=10)
        backlog.finish(backlog.take(1, now=10))
        assert backlog.take(4, now=11) == bad[1:5]
        backlog.split(bad[1:5])
        backlog.split(backlog.take(4, now=11))
        [second] = backlog.take(4, now=11)
        backlog.fail(second, retry_at=20)
        assert backlog.held(SOURCE) == (8, 80)
        assert backlog.take(4, now=12) == []
        assert backlog.take(4, now=20) == [second]
        backlog.finish([second])
        rest = []
        while batch := backlog.take(4, now=21):
            backlog.finish(batch)
            rest += batch
        assert rest == bad[2:]
        assert backlog.held(SOURCE) == (0, 0)

    def test_a_failed_batch_is_split(self):
        backlog = Backlog()
        records = [record(n, key=str(n)) for n in range(8)]
        for one in records:
            backlog.add(one)
        backlog.split(backlog.take(8, now=0))
        first = backlog.take(8, now=0)
        assert first == records[:4]
        backlog.split(first)
        assert backlog.take(8, now=0) == records[:2]

    def test_put_back_changes_nothing(self):
        backlog = Backlog()
        records = [record(n, key=str(n)) for n in range(4)]
        for one in records:
            backlog.add(one)
        backlog.put_back(backlog.take(4, now=0))
        assert backlog.take(4, now=0) == records

    def test_a_retry_that_is_put_back_is_next(self):
        backlog = Backlog()
        bad = record(0)
        backlog.add(bad)
        backlog.take(1, now=0)
        backlog.fail(bad, retry_at=10)
        assert backlog.take(1, now=10) == [bad]
        backlog.put_back([bad])
        assert backlog.take(1, now=10) == [bad]


class TestDrop:
    def test_a_failed_commit_is_repeated(self):
        backlog = Backlog()
        one, other = record(1, key="a"), record(5, key="b", partition=1)
        for each in (one, other):
            backlog.add(each)
        backlog.finish(backlog.take(10, now=0))
        backlog.committed(backlog.offsets())
        assert backlog.offsets() == {}
        backlog.not_committed([one.source, ("user.created", 7)])
        assert backlog.offsets() == {one.source: 2}

    def test_forgets_a_whole_partition(self):
        backlog = Backlog()
        bad, there = record(0, "bad"), record(0, "x", partition=1)
        for one in (bad, record(1, "bad"), there):
            backlog.add(one)
        backlog.take(1, now=0)
        backlog.fail(bad, retry_at=1)
        backlog.drop([SOURCE])
        assert backlog.take(10, now=99) == [there]
        assert backlog.held(SOURCE) == (0, 0)
        assert len(backlog) == 0

    def test_offsets_start_over_when_it_is_recreated(self):
        backlog = Backlog()
        one = record(7)
        backlog.add(one)
        backlog.finish(backlog.take(1, now=0))
        backlog.committed(backlog.offsets())
        backlog.drop([SOURCE])
        backlog.add(one)
        backlog.finish(backlog.take(1, now=0))
        assert backlog.offsets() == {SOURCE: 8}


@given(
    keys=st.lists(st.sampled_from("abcd"), min_size=1, max_size=60),
    # For each try: does it fail? And of what size may batches be?
    fates=st.lists(st.booleans(), max_size=200),
    limit=st.integers(1, 7),
)
@settings(max_examples=400)
def test_every_record_once_and_in_the_order_of_its_key(keys, fates, limit):
    """Whatever fails: each key's records finish in order, each once, and no offset is committed too early."""
    backlog, fate = Backlog(), iter(fates)
    arriving = [record(n, key) for n, key in enumerate(keys)]
    finished: list[int] = []
    now = 0.0
    while arriving or len(backlog):
        for one in arriving[:3]:
            backlog.add(one)
        del arriving[:3]
        now += 1
        batch = backlog.take(limit, now)
        if not batch:
            continue
        if next(fate, False):
            if len(batch) > 1:
                backlog.split(batch)
            else:
                backlog.fail(batch[0], retry_at=now + 2)
            continue
        would_be = backlog.offsets(assuming=batch)
        backlog.finish(batch)
        finished += [one.offset for one in batch]
        assert backlog.offsets() == would_be
        upto = backlog.offsets().get(SOURCE, 0)
        assert set(range(upto)) <= set(finished)
        assert upto == len(finished) or upto not in finished
    assert sorted(finished) == list(range(len(keys)))
    for key in set(keys):
        offsets = [n for n in finished if keys[n] == key]
        assert offsets == sorted(offsets)
    assert backlog.offsets() == {SOURCE: len(keys)}
    assert backlog.held(SOURCE) == (0, 0)


class TestStopped:
    """A stopped topic: only probes, one after the other, in the order of each key."""

    def test_serves_only_probes(self):
        backlog = Backlog()
        one, behind, two, other = record(0, "a"), record(1, "a"), record(2, "b"), record(3, "x", topic="other")
        for each in (one, behind, two, other):
            backlog.add(each)
        backlog.take(1, now=0)
        backlog.fail(one, retry_at=0)
        backlog.stop("user.created")
        assert backlog.take(10, now=1) == [other]
        assert backlog.held(SOURCE) == (3, 30)
        assert backlog.probe("user.created", failed=True) is one
        backlog.fail(one, retry_at=1)
        assert backlog.take(10, now=1) == []
        assert backlog.probe("user.created", failed=False) is two
        backlog.finish([two])
        newer = record(4, "c")
        backlog.add(newer)
        assert backlog.take(10, now=1) == []
        backlog.resume("user.created")
        assert backlog.take(10, now=1) == [newer, one, behind], "what has failed comes last"
        assert backlog.held(SOURCE) == (0, 0)

    def test_a_revoked_partition_takes_its_probes_along(self):
        backlog = Backlog()
        bad, there = record(0, "bad"), record(0, "x", partition=1)
        for one in (bad, there):
            backlog.add(one)
        backlog.take(1, now=0)
        backlog.fail(bad, retry_at=0)
        backlog.stop("user.created")
        backlog.take(1, now=1)
        backlog.drop([SOURCE])
        assert backlog.probe("user.created", failed=True) is there
        backlog.finish([there])
        assert backlog.probe("user.created", failed=True) is None
        backlog.resume("user.created")
        assert len(backlog) == 0


@given(
    keys=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40),
    acts=st.lists(st.sampled_from(["work", "fail", "stop", "resume"]), max_size=120),
    limit=st.integers(1, 7),
)
@settings(max_examples=300)
def test_order_holds_whenever_a_topic_is_stopped(keys, acts, limit):
    backlog, topic = Backlog(), "user.created"
    arriving = [record(n, key) for n, key in enumerate(keys)]
    finished: list[int] = []
    stopped, now = False, 0.0
    plan = iter(acts)
    while arriving or len(backlog):
        for one in arriving[:2]:
            backlog.add(one)
        del arriving[:2]
        now += 1
        act = next(plan, "resume" if stopped else "work")
        if act == "stop" and not stopped:
            backlog.stop(topic)
            stopped = True
        elif act == "resume" and stopped:
            backlog.resume(topic)
            stopped = False
        batch = backlog.take(limit, now)
        assert not (stopped and batch)
        if stopped and (probe := backlog.probe(topic, failed=int(now) % 2 == 0)):
            batch = [probe]
        if not batch:
            continue
        if act == "fail":
            if len(batch) > 1:
                backlog.split(batch)
            else:
                backlog.fail(batch[0], retry_at=now + 2)
            continue
        backlog.finish(batch)
        finished += [one.offset for one in batch]
    assert sorted(finished) == list(range(len(keys)))
    for key in set(keys):
        offsets = [n for n in finished if keys[n] == key]
        assert offsets == sorted(offsets)
    assert backlog.held(SOURCE) == (0, 0)
    assert backlog.offsets() == {SOURCE: len(keys)}
