import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from embedded.errors import NotReady
from embedded.processes import Child, drive, tail
from embedded.system import ROOT
from tests.waiting import eventually

FAMILY = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('here', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
SUPERVISOR = """
import sys, time; sys.path.append("platform")
from pathlib import Path
from embedded.processes import Child
print(Child(["sleep", "60"], log=Path(sys.argv[1]), name="child").pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def spawn(tmp_path: Path):
    children: list[Child] = []

    def spawn(*argv: str, **options) -> Child:
        child = Child(argv, log=tmp_path / "log", name="child", **options)
        children.append(child)
        return child

    yield spawn
    for child in children:
        child.kill9()


def python(spawn, code: str) -> Child:
    child = spawn(sys.executable, "-c", code)
    eventually(lambda: "here" in child.last_lines())
    return child


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


class TestStop:
    def test_it_stops_by_the_signal(self, spawn) -> None:
        assert spawn("sleep", "60").stop() == -signal.SIGTERM

    def test_a_process_that_ignores_the_signal_is_killed(self, spawn) -> None:
        assert python(spawn, DEAF).stop(grace=0.2) == -signal.SIGKILL

    def test_a_paused_process_receives_the_signal(self, spawn) -> None:
        child = spawn("sleep", "60")
        child.pause()

        assert child.stop(grace=5) == -signal.SIGTERM

    def test_an_exited_process_keeps_its_status(self, spawn) -> None:
        child = spawn("sh", "-c", "exit 7")
        child.popen.wait(60)

        assert child.stop() == 7


def test_kill9_kills_all_descendants(spawn) -> None:
    child = python(spawn, FAMILY)
    family = child.family()
    child.kill9()

    assert len(family) == 2
    assert eventually(lambda: all(is_gone(pid) for pid in family), within=60)


def test_pause_and_resume(spawn) -> None:
    child = python(spawn, FAMILY)
    child.pause()
    eventually(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in child.family()))
    child.resume()

    assert eventually(lambda: all(psutil.Process(pid).status() != psutil.STATUS_STOPPED for pid in child.family()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of this system cannot do this")
def test_a_child_dies_with_its_supervisor(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path / "log")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pid = int(supervisor.stdout.readline())
    alive = psutil.pid_exists(pid)
    supervisor.kill()
    supervisor.wait()

    assert alive
    assert eventually(lambda: is_gone(pid), within=60)


class TestStart:
    def test_no_python_runs_between_fork_and_exec(self, tmp_path) -> None:
        """There, what threads held is destroyed, and the destruction of a Kafka client aborts the child or never returns."""
        code = f"""
import os, sys; sys.path.append("platform")
from pathlib import Path
from embedded.processes import Child
os.register_at_fork(after_in_child=lambda: Path({str(tmp_path)!r}, "python").touch())
raise SystemExit(Child(["true"], log=Path({str(tmp_path)!r}, "log"), name="child").popen.wait())
"""
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]

    def test_a_missing_program_is_an_error(self, spawn) -> None:
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            spawn("no-such-program")

    def test_one_that_cannot_run_says_why(self, spawn, tmp_path) -> None:
        program = tmp_path / "program"
        program.write_text("#!/no/such/shell\n")
        program.chmod(0o755)
        child = spawn(program)
        assert child.popen.wait(60) == 127
        assert child.last_lines() == f"  | cannot run {program}: No such file or directory"

    def test_it_has_the_process_id_that_is_known(self, spawn) -> None:
        child = spawn("sh", "-c", "echo I am $$")
        child.popen.wait(60)
        assert f"I am {child.pid}" in child.last_lines()

    @pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN])
    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_it_ignores_the_signals_that_its_parent_ignores_but_for_python(self, spawn, disposition) -> None:
        before = signal.signal(signal.SIGINT, disposition)
        try:
            child = spawn("grep", "SigIgn", "/proc/self/status")
            ours = Path("/proc/self/status").read_text()
        finally:
            signal.signal(signal.SIGINT, before)
        child.popen.wait(60)
        [mask] = re.findall(r"SigIgn:\s+(\w+)", ours)
        by_python = sum(1 << number - 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))
        assert int(child.last_lines().split()[-1], 16) == int(mask, 16) & ~by_python


class TestWaiting:
    def test_an_exit_is_reported_with_the_output(self, spawn) -> None:
        child = spawn("sh", "-c", "echo out of luck; exit 3")

        with pytest.raises(NotReady, match=r"child exited with status 3; its last lines:\n  \| out of luck"):
            drive(child.until(lambda: False, within=60))

    def test_a_killing_signal_is_named(self, spawn) -> None:
        child = spawn("sleep", "60")
        os.kill(child.pid, signal.SIGKILL)

        with pytest.raises(NotReady, match="child was killed by SIGKILL"):
            drive(child.until(lambda: False, within=60))

    def test_a_timeout_is_reported(self, spawn) -> None:
        with pytest.raises(NotReady, match=r"child was not ready after 0\.1 s"):
            drive(spawn("sleep", "60").until(lambda: False, within=0.1))

    def test_a_program_may_fail(self, spawn) -> None:
        with pytest.raises(NotReady, match="exited with status 1"):
            drive(spawn("false").until_done(within=60))

    def test_a_program_may_hang(self, spawn) -> None:
        child = spawn("sleep", "60")

        with pytest.raises(NotReady, match="took longer"):
            drive(child.until_done(within=0.1))
        assert not child.alive

    def test_several_are_driven_concurrently(self, spawn) -> None:
        children = [spawn("sleep", "0.3") for _ in range(5)]

        drive(*(child.until_done(within=60) for child in children))

        assert [child.popen.returncode for child in children] == [0] * 5


def test_the_tail_of_a_missing_file(tmp_path: Path) -> None:
    assert tail(tmp_path / "missing") == "  | (no output)"
