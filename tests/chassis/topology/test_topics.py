"""The command `topics` on a real broker creates missing topics, reports differences, and applies them on request."""

import io
import uuid
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from django.core.management import CommandError, call_command

from chassis.events.event import Event
from chassis.topology import topics
from chassis.topology.topics import PARTITIONS, REPLICATION, Difference
from tests.chassis.support.kafka_helpers import make_topic, servers
from tests.waiting import eventually


class Told(Event):
    """Something was told."""

    topic: ClassVar[str] = "told"


@pytest.fixture
def name(monkeypatch, settings) -> str:
    """The one topic of the service."""
    settings.KAFKA_TOPIC_PARTITIONS = 2
    name = f"told-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(Told, "topic", name)
    monkeypatch.setattr(topics, "published", lambda: (Told,))
    monkeypatch.setattr(topics, "handlers", dict)
    return name


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("topics", *arguments, stdout=out)
    return out.getvalue()


def config(name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    client = AdminClient(servers())  # it must outlive its answer

    def entries():
        try:
            return client.describe_configs([resource])[resource].result(60)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            return None  # the controller has created it; the broker may not know it yet

    return {entry.name: entry.value for entry in eventually(entries).values()}


def partitions(name: str) -> int:
    return len(AdminClient(servers()).list_topics(name, timeout=60).topics[name].partitions)


def test_creates_it_and_then_reports_nothing(name):
    assert run() == f"{name}: created\n"
    assert run() == f"{name}: exists\n"
    assert (partitions(name), config(name)["retention.ms"]) == (2, str(168 * 3_600_000))


def test_segments_roll_early_enough_to_delete_old_records(name, settings):
    """Whole segments are deleted only: with the broker's week a record could live for twice its retention time."""
    settings.KAFKA_TOPIC_SEGMENT_HOURS = 12
    run()
    assert config(name)["segment.ms"] == str(12 * 3_600_000)
    settings.KAFKA_TOPIC_SEGMENT_HOURS = 24
    assert "segment.ms is 43200000, would be 86400000: changed" in run("--apply")
    assert eventually(lambda: config(name)["segment.ms"] == "86400000")


def test_a_topic_of_an_earlier_version_gets_shorter_segments(name):
    make_topic(name, partitions=2)
    assert "segment.ms is 604800000, would be 86400000 (--apply changes it)" in run()


def test_reports_differences_without_applying_them(name):
    make_topic(name, partitions=1, **{"retention.ms": "1000"})
    said = run()
    assert f"{name}: exists\n" in said
    assert "retention.ms is 1000, would be 604800000 (--apply changes it)" in said
    assert "partitions is 1, would be 2 (--apply --add-partitions changes it" in said
    assert (config(name)["retention.ms"], partitions(name)) == ("1000", 1)


def test_applies_configuration_but_no_partitions(name):
    make_topic(name, partitions=1, **{"retention.ms": "1000", "cleanup.policy": "compact"})
    said = run("--apply")
    assert "retention.ms is 1000, would be 604800000: changed" in said
    assert "cleanup.policy is compact, would be delete: changed" in said
    now = eventually(lambda: found if (found := config(name))["retention.ms"] != "1000" else None)
    assert (now["retention.ms"], now["cleanup.policy"], partitions(name)) == ("604800000", "delete", 1)
    assert "retention.ms" not in run()


def test_adds_partitions_only_if_confirmed(name):
    make_topic(name, partitions=1)
    with pytest.raises(CommandError, match="--apply"):
        run("--add-partitions")
    assert "partitions is 1, would be 2: changed" in run("--apply", "--add-partitions")
    assert eventually(lambda: partitions(name) == 2)


def test_removes_no_partition_and_moves_no_replica(name):
    make_topic(name, partitions=3)
    assert "partitions is 3, would be 2 (this command cannot change it" in run("--apply", "--add-partitions")
    assert partitions(name) == 3
    assert not Difference(name, REPLICATION, "1", "3").is_config
    assert not Difference(name, PARTITIONS, "3", "2").is_more_partitions


@pytest.mark.parametrize(("brokers", "copies", "in_sync"), [(1, 1, "1"), (2, 1, "1"), (3, 3, "2"), (5, 3, "2")])
def test_three_brokers_keep_three_replicas_of_which_two_acknowledge(name, brokers, copies, in_sync):
    [topic] = topics.wanted(brokers)
    assert (topic.replication_factor, topic.config["min.insync.replicas"]) == (copies, in_sync)
    assert topic.config["unclean.leader.election.enable"] == "false"


def test_an_unavailable_broker_is_named(name, settings):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    with pytest.raises(CommandError, match=r"127\.0\.0\.1:1"):
        run("--wait", "1")
