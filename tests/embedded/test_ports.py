import re
import socket
import subprocess
import sys

import pytest

from embedded import ports
from embedded.errors import PortTaken
from embedded.system import ROOT

CHOOSE = """
import sys; sys.path.append("platform")
from embedded import ports
print(*ports.free(200), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server():
    with socket.create_server((ports.HOST, 0)) as listening:
        yield listening


def test_free_ports_are_distinct_also_from_call_to_call() -> None:
    chosen = [*ports.free(50), *ports.free(50)]

    assert len(set(chosen)) == 100
    assert all(ports.is_free(port) for port in chosen)


def test_runs_at_the_same_time_never_share_a_port() -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", CHOOSE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    chosen = [port for run in runs for port in run.stdout.readline().split()]
    for run in runs:
        run.communicate("")

    assert len(chosen) == 800
    assert len(set(chosen)) == 800


def test_a_port_with_a_server_is_taken(server) -> None:
    port = server.getsockname()[1]

    assert ports.listens(port)
    assert not ports.is_free(port)


def test_taken_and_shared_ports_are_one_error_that_names_them_and_their_variables(server) -> None:
    taken = server.getsockname()[1]
    shared, free = ports.free(2)

    with pytest.raises(PortTaken) as raised:
        ports.require_free(
            {
                "the gateway": ("GATEWAY_PORT", taken),
                "users": ("USERS_PORT", shared),
                "orders": ("ORDERS_PORT", shared),
                "Kafka": ("KAFKA_PORT", free),
            }
        )

    message = str(raised.value)
    assert f"port {taken}, required for the gateway, is in use by another program\n" in message
    for purpose in ("users", "orders"):
        assert f"port {shared}, required for {purpose}, is also required for another purpose\n" in message
    assert "Kafka" not in message
    proposed = re.search(r"GATEWAY_PORT=(\d+) USERS_PORT=(\d+) ORDERS_PORT=(\d+) make up$", message)
    assert proposed
    assert len({*map(int, proposed.groups()), taken, shared, free}) == 6


def test_free_ports_are_accepted() -> None:
    one, other = ports.free(2)

    ports.require_free({"users": ("USERS_PORT", one), "orders": ("ORDERS_PORT", other)})

    assert not ports.listens(one)
