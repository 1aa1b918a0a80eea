"""Commands of the runbook in a running system. `tests/docs/test_commands.py` checks every command."""

import re
import shlex

import pytest

from tests.acceptance.harness import ROOT
from tests.acceptance.ledger import new_ids, settle, user_created, wire
from tests.docs.pages import blocks

pytestmark = pytest.mark.acceptance

BLOCKS = blocks(ROOT / "docs" / "runbook.md")
LINES = [line for block in BLOCKS if "<<" not in block for line in block.splitlines() if line.startswith("manage.py")]
"""Commands, each of one line."""


def test_the_lag_of_a_group(system, topics):
    for user_id in new_ids(20):
        topics.send_later(*wire(user_created(user_id)))
    settle(system, topics)
    [script] = [block for block in BLOCKS if "<<'END'" in block]
    program = script.partition("\n")[2].rpartition("\nEND")[0]
    status, said = system.manage("orders", "shell", "-c", program)
    assert status == 0, said
    found = re.findall(r"^(\S+) (\d+) (\d+)$", said, re.MULTILINE)
    lag = {(topic, int(partition)): int(number) for topic, partition, number in found}
    assert {topic for topic, _ in lag} == {"user.created", "payment.completed"}
    assert {number for (topic, _), number in lag.items() if topic == "user.created"} == {0}


@pytest.mark.parametrize("database", ["userdb", "orderdb"])
def test_statements(system, database):
    for block in BLOCKS:
        if block.startswith(("SELECT", "UPDATE")):
            with system.database(database) as connection, connection.transaction(force_rollback=True):
                connection.execute(block.encode())


def test_commands(system):
    """All but those that would decide about what other tests have left."""
    found = {}
    for line in LINES:
        words = shlex.split(line)[1:]
        [named] = [word for word in words if word.startswith("--settings=")]
        if "redrive" not in words or "--dry-run" in words:
            status, said = system.manage(named.rpartition(".")[2], *words)
            assert "Traceback" not in said, line
            found[" ".join(words[:2])] = (status, said)
    assert len(found) >= 8
    assert found["deadletters list"][0] == found["deadletters redrive"][0] == found["parked list"][0] == 0
    assert "CommandError: no dead letter of orders has the id 5f0c" in found["deadletters show"][1]
    assert "CommandError: not parked, or missing: 42" in found["parked retry"][1]
    status, said = found["consume --replay-from"]
    assert (status, "group" in said) == (1, True), said
