"""A relay with much to send stays below the memory limit of its manifest."""

import os
import re
import uuid
from pathlib import Path

import pytest

from tests.acceptance.topics import Topics
from tests.deploy import kustomize
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

UNITS = {"Mi": 2**20, "Gi": 2**30}
LEFT = "SELECT count(*) FROM outbox WHERE topic = %s AND sent_at IS NULL"


def limit_of(name: str) -> int:
    """Bytes that deploy/kubernetes allows a process."""
    [container] = kustomize.pod(kustomize.of_kind("Deployment", "StatefulSet")[name])["containers"]
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", container["resources"]["limits"]["memory"]).groups()
    return int(number) * UNITS[unit]


def peak(pid: int) -> int:
    """The most memory that a process has ever had resident, in bytes."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


@pytest.mark.parametrize(("count", "size"), [(1_000, 300_000), (200, 999_000)])
def test_with_large_rows(system, topics, count, size):
    topic = f"large-{uuid.uuid4()}"
    topics.create(topic, 3)
    system.end(["users-relay"])
    with system.database("userdb") as connection, connection.cursor() as cursor:
        copy = "COPY outbox (event_id, topic, key, payload, headers, request_id) FROM STDIN"
        with cursor.copy(copy) as rows:
            for n in range(count):
                rows.write_row((uuid.uuid4(), topic, str(n), os.urandom(size), "[]", ""))
    [relay] = system.start("users-relay", fresh=True)
    eventually(lambda: system.rows("userdb", LEFT, topic) == [(0,)], within=120, what="all is sent")
    found, allowed = peak(relay.pid), limit_of("users-relay")
    print(f"{count} rows of {size} bytes: {found / 2**20:.0f} MiB of {allowed / 2**20:.0f}")
    assert found < allowed
    with Topics(system.engines.kafka.bootstrap_servers, [topic]) as own:
        eventually(lambda: len(own.of(topic)) >= count, within=60)
        assert sorted(int(record.key) for record in own.of(topic)) == list(range(count))
    system.rows("userdb", "DELETE FROM outbox WHERE topic = %s RETURNING 1", topic)
