"""With many large events, a consumer stays below the memory limit of its manifest."""

import re
import uuid
from pathlib import Path

import orjson
import pytest
import yaml

from tests.acceptance.ledger import check, settle, user_created, wire
from tests.deploy.kustomize import ROOT
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

MIB = 1 << 20
PLACED = """
INSERT INTO orders (id, user_id, items, total_amount, status, is_welcome, created_at)
SELECT id, 'large', '[{"productId": "large", "quantity": 1, "price": "1.00"}]', 1, 'pending', false, now() FROM unnest(%s::uuid[]) AS id RETURNING id
"""


def limit(service: str) -> int:
    """What the manifest allows the service's consumer, in bytes."""
    for document in yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / f"{service}.yaml").read_text()):
        for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            if "consume" in [*container.get("args", []), *container.get("command", [])]:
                return int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * MIB
    raise AssertionError(f"no consumer in the manifest of {service}")


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    return status(pid, "VmHWM")


def status(pid: int, name: str) -> int:
    """A line of /proc/PID/status, in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def order_created(order_id: str, size: int) -> tuple[str, bytes, bytes, list]:
    payload = {
        "orderId": order_id, "userId": f"large-{uuid.uuid4()}", "createdAt": "2026-11-23T12:00:00Z", "totalAmount": 1,
        "items": [{"productId": "p", "quantity": 1, "price": 1}], "note": "x" * size,
    }  # fmt: skip
    return "order.created", order_id.encode(), orjson.dumps(payload), [("ce_id", str(uuid.uuid4()).encode())]


@pytest.mark.parametrize(("number", "size", "kept"), [(1_000, 300_000, 0.9), (200, 990_000, 1)])
def test_orders(system, topics, number, size, kept, record_property):
    """It keeps no more than this part of its peak when it has nothing more to do."""
    system.end(["orders-consume"])
    users = [f"large-{uuid.uuid4()}" for _ in range(number)]
    for sent, user_id in enumerate(users):
        topic, key, value, headers = wire(user_created(user_id))
        topics.send_later(topic, key, value.replace(b"Ada", b"A" * size), headers)
        if sent % 50 == 0:
            topics.flush()
    topics.flush()
    [member] = system.start("orders-consume", fresh=True)
    settle(system, topics, within=120)
    check(system, topics, users)
    record_property("peak_mib", peak(member.pid) // MIB)
    print("peak of orders", number, size, peak(member.pid) // MIB, "MiB of", limit("orders") // MIB)
    assert peak(member.pid) < limit("orders")
    eventually(lambda: status(member.pid, "VmRSS") < kept * peak(member.pid), what="it returns memory")


@pytest.mark.parametrize(("number", "size"), [(1_000, 300_000), (200, 990_000)])
def test_payments(system, topics, number, size, record_property):
    system.end(["payments-consume"])
    orders = [str(uuid.uuid4()) for _ in range(number)]
    # Their payments are for something: key after key of unknown orders would stop the topic in orders.
    system.rows("orderdb", PLACED, orders)
    for sent, order_id in enumerate(orders):
        topics.send_later(*order_created(order_id, size))
        if sent % 50 == 0:
            topics.flush()
    topics.flush()
    [member] = system.start("payments-consume", fresh=True)
    eventually(lambda: topics.processed("payments", "order.created"), within=120, every=0.2)
    wanted = set(orders)
    eventually(lambda: wanted <= {record.payload.get("orderId") for record in topics.of("payment.completed")})
    record_property("peak_mib", peak(member.pid) // MIB)
    print("peak of payments", number, size, peak(member.pid) // MIB, "MiB of", limit("payments") // MIB)
    assert peak(member.pid) < limit("payments")
