"""What is suspended continues when its supervisor is killed, and therefore ends with it."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from embedded.postgres import PostgreSQL
from embedded.processes import Child
from embedded.system import ROOT
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux only")

BEGIN = """
import json, sys, time; sys.path.append("platform")
from pathlib import Path
from embedded.postgres import PostgreSQL
from embedded.processes import Child
folder = Path(sys.argv[1])
"""
END = """
print(json.dumps({"family": child.family(), **more}), flush=True)
child.pause()
print("{}", flush=True)
time.sleep(600)
"""
WEB = """
import os, sys, time
if os.fork() == 0:
    parent = os.getppid()
    while os.getppid() == parent: time.sleep(0.05)
    os._exit(0)
print("here", flush=True); time.sleep(600)
"""
PROCESS = f"""
child, more = Child([sys.executable, "-c", {WEB!r}], log=folder / "log", name="child"), {{}}
while "here" not in child.last_lines() or len(child.family()) < 2: time.sleep(0.05)
"""
POSTGRES = """
server = PostgreSQL(folder / "postgres")
server.start()
child, more = server.child, {"port": server.port, "passwords": dict(server.passwords)}
"""


@contextmanager
def supervisor(code: str, folder: Path):
    """A process that has suspended a child of its own; what it says of this child."""
    argv = [sys.executable, "-c", BEGIN + code + END, str(folder)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            told = json.loads(process.stdout.readline())
            assert process.stdout.readline() == "{}\n"
            yield process, told
        finally:
            process.kill()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def states(pids: list[int]) -> set[str]:
    """Without those that ended before their parent was suspended."""
    found = set()
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            found.add(psutil.Process(pid).status())
    return found - {psutil.STATUS_ZOMBIE}


@pytest.mark.parametrize("code", [PROCESS, POSTGRES], ids=["process", "postgres"])
def test_a_suspended_family_ends_when_its_supervisor_is_killed(tmp_path, code):
    with supervisor(code, tmp_path) as (process, told):
        assert len(told["family"]) > 1
        assert eventually(lambda: states(told["family"]) == {psutil.STATUS_STOPPED})
        process.kill()
        assert eventually(lambda: all(map(is_gone, told["family"])), within=120)


def test_postgres_can_be_started_again_afterwards(tmp_path):
    with supervisor(POSTGRES, tmp_path) as (process, told):
        process.kill()
        eventually(lambda: is_gone(told["family"][0]), within=120)
    with PostgreSQL(tmp_path / "postgres", told["port"], passwords=told["passwords"]) as server:
        assert psycopg.connect(server.url("userdb"), connect_timeout=60).execute("SELECT 1").fetchone() == (1,)


class TestGuard:
    @pytest.fixture
    def child(self, tmp_path):
        child = Child(["sleep", "600"], log=tmp_path / "log", name="child")
        yield child
        child.kill9()

    def guards(self, child) -> list[int]:
        return [
            one.pid
            for one in psutil.Process(os.getpid()).children()
            if "kill -s CONT" in " ".join(one.cmdline()) and str(child.pid) in one.cmdline()
        ]

    def test_there_is_one_while_something_is_suspended(self, child):
        child.pause()
        assert len(self.guards(child)) == 1
        child.pause()
        assert len(self.guards(child)) == 1
        assert eventually(lambda: states([child.pid]) == {psutil.STATUS_STOPPED})
        child.resume()
        assert self.guards(child) == []
        assert eventually(lambda: states([child.pid]) != {psutil.STATUS_STOPPED})

    @pytest.mark.parametrize("end", ["stop", "kill9"])
    def test_there_is_none_after_the_end(self, child, end):
        child.pause()
        getattr(child, end)()
        assert self.guards(child) == []
        assert not child.alive


BUSY = """
import hashlib, mmap, sys, threading
file = open(sys.argv[1], "r+b")
counted = mmap.mmap(file.fileno(), 8)
lock, data = threading.Lock(), bytes(200_000)
def count():
    while True:
        hashlib.sha256(data)  # without Python's lock
        with lock:
            counted[:] = (int.from_bytes(counted[:]) + 1).to_bytes(8)
for _ in range(12):
    threading.Thread(target=count).start()
"""


def test_on_return_no_thread_runs(tmp_path):
    file = tmp_path / "counted"
    file.write_bytes(bytes(8))
    child = Child([sys.executable, "-c", BUSY, str(file)], log=tmp_path / "log", name="busy")
    try:
        for _ in range(30):
            before = file.read_bytes()
            eventually(lambda before=before: file.read_bytes() != before)
            child.pause()
            paused = file.read_bytes()
            time.sleep(0.05)
            assert file.read_bytes() == paused
            child.resume()
    finally:
        child.kill9()
