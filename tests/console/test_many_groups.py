"""Kafka shared by many systems: with more consumer groups than can be read in time, pages are shown in time, and say so."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.proxy import Links
from chassis.kafka import topic_reader
from console.pages.topics import republish
from console.sources import cluster, groups
from console.sources.cluster import Cluster
from console.sources.groups import AT_ONCE, GroupOffsets
from console.sources.kafka import Topics
from embedded import cache, ports
from embedded.kafka import Kafka
from embedded.ports import HOST
from tests.chassis.support import kafka_helpers as kafka
from tests.console.running import running

MANY = 200
LATE_SECONDS = 0.1
"""How long each byte takes to and from Kafka. One group takes some 0.5 s then, and all of them, one by one, 100 s."""
WITHIN = 30.0


def make_topic(servers: str, name: str) -> None:
    client = AdminClient({"bootstrap.servers": servers})
    [made] = client.create_topics([NewTopic(name, 1, 1)]).values()
    made.result(60)


def commit(servers: str, topic: str, names) -> None:
    """Let each of these groups commit the offset 1."""

    def one(name: str) -> None:
        client = Consumer({"bootstrap.servers": servers, "group.id": name, "log_level": 0})
        try:
            topic_reader.settled(lambda: client.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False))
        finally:
            client.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, names))


@pytest.fixture(scope="module")
def topic() -> str:
    return kafka.new_topic("many", partitions=1)


@pytest.fixture(scope="module")
def names(topic) -> list[str]:
    """Three times as many groups as are read if there is no time at all."""
    names = [f"{topic}-{number:02}" for number in range(3 * AT_ONCE)]
    commit(kafka.servers()["bootstrap.servers"], topic, names)
    return names


class TestOverview:
    @pytest.fixture
    def overview(self, topic, names, settings, monkeypatch):
        settings.KAFKA_PREFIX = topic
        monkeypatch.setattr(cluster, "FRESH_SECONDS", 0.0)
        monkeypatch.setattr(groups, "READ_SECONDS", -1.0)
        topics = Topics()
        yield Cluster(topics).overview
        topics.close()

    def test_groups_are_read_in_turn_and_remembered(self, overview, topic, names):
        first = overview()
        assert sorted(first.groups) == names
        assert len(first.behind) == 2 * AT_ONCE
        assert {group.read_at for group in first.behind} == {None}
        assert len(first.readers[topic]) == AT_ONCE
        second, third = overview(), overview()
        assert len(second.readers[topic]) == 2 * AT_ONCE
        assert len(third.behind) == 2 * AT_ONCE
        assert {one.committed for group in third.groups.values() for one in group.positions} == {1}
        assert 0 < third.oldest < 60

    def test_with_enough_time_all_are_read_at_once(self, overview, names, monkeypatch):
        monkeypatch.setattr(groups, "READ_SECONDS", 60.0)
        assert (overview().behind, len(overview().groups)) == ([], len(names))

    def test_nothing_is_published_again_while_a_group_is_unknown(self, overview, topic, monkeypatch):
        monkeypatch.setattr(republish, "_reason", lambda *_: "")
        kafka.send(topic, (b"k", b"{}", []))
        topics = Topics()
        record = topics.record(topic, 0, 0)
        topics.close()
        reason = republish.offer(record, {}, overview()).reason
        assert f"{2 * AT_ONCE} consumer groups could not be read" in reason
        assert "KAFKA_PREFIX" in reason

    def test_a_kafka_that_answers_for_no_group_is_away(self, names, topic, settings):
        settings.KAFKA_BOOTSTRAP_SERVERS = f"127.0.0.1:{ports.free(1)[0]}"
        with pytest.raises(KafkaException):
            GroupOffsets().read(names[:2], [TopicPartition(topic, 0)])


@pytest.fixture(scope="module")
def slow_kafka():
    """A Kafka with MANY groups, and the address at which it is slow."""
    with cache.temporary_folder("many-groups") as folder, Links() as links:
        broker = Kafka(folder / "kafka")
        node = broker.members[0]
        inside, outside = ports.free(2)
        own = f"PLAINTEXT://{HOST}:{node.port}"
        broker.options |= {
            "listeners": f"{own},CONTROLLER://{HOST}:{node.controller_port},SLOW://{HOST}:{inside}",
            "advertised.listeners": f"{own},SLOW://{HOST}:{outside}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SLOW:PLAINTEXT",
        }
        link = links.add("slow", outside, inside)
        broker.start()
        try:
            make_topic(broker.bootstrap_servers, "shared")
            commit(broker.bootstrap_servers, "shared", [f"g-{number}" for number in range(MANY)])
            link.slow(LATE_SECONDS)
            yield f"{HOST}:{outside}"
        finally:
            broker.abandon()


def test_pages_are_shown_in_time_and_name_what_helps(slow_kafka):
    with running(KAFKA_BOOTSTRAP_SERVERS=slow_kafka) as console:
        for path in ("/topics", "/groups", "/groups/g-7", "/topics/shared"):
            begun = time.monotonic()
            answer = console.get(path)
            assert time.monotonic() - begun < WITHIN, path
            assert answer.status == 200
            assert f"of {MANY} consumer groups could not be read in time" in answer.text
            assert "KAFKA_PREFIX" in answer.text
        assert "not read yet" in console.get("/groups").text
