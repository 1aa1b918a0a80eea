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


def test_a_taken_port_is_an_error_that_names_it_and_the_variable(server) -> None:
    port = server.getsockname()[1]

    with pytest.raises(PortTaken, match=rf"port {port}, required for the gateway.*GATEWAY_PORT="):
        ports.require_free(port, variable="GATEWAY_PORT", purpose="the gateway")


def test_a_free_port_is_returned_unchanged() -> None:
    (port,) = ports.free(1)

    assert ports.require_free(port, variable="X", purpose="x") == port
    assert not ports.listens(port)
