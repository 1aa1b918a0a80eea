"""The next run ends the PostgreSQL of a run that was killed, and nothing else."""

import os
import signal
import sys
from pathlib import Path

import pytest

from embedded import left_over, ports
from embedded.postgres import PostgreSQL
from embedded.signals import descendants, signal_all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")


@pytest.mark.parametrize("is_suspended", [False, True])
def test_a_server_that_still_runs_is_ended(tmp_path: Path, is_suspended: bool) -> None:
    with PostgreSQL(tmp_path / "postgres") as server:
        if is_suspended:
            signal_all([server.child.pid, *descendants(server.child.pid)], signal.SIGSTOP)
        assert left_over.end_server(tmp_path / "postgres")
        assert not server.child.alive
        assert ports.is_free(server.port)
        assert not (tmp_path / "postgres" / "data" / "postmaster.pid").exists()
        server.restart()
    assert not left_over.end_server(tmp_path / "postgres")


@pytest.mark.parametrize("text", ["{this}\n/elsewhere\n", "999999999\n", "x", "", "-1\n", "²\n"])
def test_another_program_with_the_same_number_is_left_alone(tmp_path: Path, text: str) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "postmaster.pid").write_text(text.format(this=os.getpid()))
    assert not left_over.end_server(tmp_path / "postgres")
