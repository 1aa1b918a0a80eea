"""A fork is what a process of its own would be: the same program tells the same of itself in both."""

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedded.forks.child import Forked
from embedded.forks.fork import Fork
from embedded.processes import Child
from embedded.system import ROOT
from tests.waiting import eventually

DESCRIBE = """
import json, os, pathlib, signal, sys, threading
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "name": __name__, "main": sys.modules["__main__"].__dict__["__name__"],
    "environment": dict(os.environ), "folder": os.getcwd(), "leads its session": os.getsid(0) == os.getpid(),
    "files": [n for n in range(3, 64) if os.path.exists(f"/proc/self/fd/{n}")][1:],
    "handlers": {n: str(signal.getsignal(n)) for n in range(1, 32)}, "mask": str(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "command": pathlib.Path("/proc/self/cmdline").read_text().replace("\\0", " ")[:100] if sys.platform == "linux" else "",
    "input": sys.stdin.read(), "threads": threading.active_count(),
}))
"""
ENDS = {
    "by itself": "",
    "with a status": "raise SystemExit(3)",
    "without a status": "raise SystemExit",
    "with a message": "import sys; sys.exit('no more')",
    "with an exception": "1 / 0",
    "by a hook": "import sys; sys.excepthook = lambda *error: print('hooked'); 1 / 0",
    "at once": "import os; os._exit(4)",
    "by abort": "import os; os.abort()",
    "after its threads": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()",
    "after its last functions": "import atexit; atexit.register(print, 'last')",
    "after its destructors": "class One:\n  def __del__(self): print('destroyed')\none = One()",
}


def lines(kind, tmp_path, argv, **variables):
    """Run Python with these arguments. Returns its exit status and output."""
    log = tmp_path / f"{kind.__name__}.log"
    env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8", **variables}
    child = kind([sys.executable, *argv], log=log, name="one", cwd=ROOT, env=env)
    try:
        return child.popen.wait(60), log.read_text()
    finally:
        child.kill9()


@pytest.mark.parametrize(
    ("argv", "variables"),
    [
        (["script.py", "a", "b"], {}),
        (["-P", "script.py", "a"], {"ENVIRONMENT": "nowhere"}),
        (["-m", "module_of_this_test", "a"], {"PYTHONPATH": "/nowhere:."}),
        (["-c", DESCRIBE, "a"], {}),
    ],
    ids=["script", "safe path", "module", "code"],
)
def test_it_is_told_the_same(tmp_path, argv, variables):
    (tmp_path / "script.py").write_text(DESCRIBE)
    (tmp_path / "module_of_this_test.py").write_text(DESCRIBE)
    argv = [str(tmp_path / part) if part == "script.py" else part for part in argv]
    variables = {name: value.replace(".", str(tmp_path)) for name, value in variables.items()}
    assert lines(Forked, tmp_path, argv, **variables) == lines(Child, tmp_path, argv, **variables)


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_the_same_way(tmp_path, end):
    script = tmp_path / "script.py"
    script.write_text(f"print('begins')\n{ENDS[end]}")
    (forked, said), (own, expected) = (lines(kind, tmp_path, [str(script)]) for kind in (Forked, Child))
    assert (forked, said.splitlines()[-1]) == (own, expected.splitlines()[-1])
    assert said.startswith("begins\n")


def test_signals_and_children_end_as_usual(tmp_path):
    log = tmp_path / "log"
    script = tmp_path / "script.py"
    script.write_text("import subprocess; subprocess.run(['sleep', '600'])")
    child = Forked([sys.executable, str(script)], log=log, name="one", cwd=ROOT, env={"PATH": os.environ["PATH"]})
    eventually(lambda: len(child.family()) == 2)
    with pytest.raises(subprocess.TimeoutExpired):
        child.popen.wait(0.01)
    assert child.alive
    child.kill9()
    assert child.popen.returncode == child.popen.wait() == -signal.SIGKILL
    child.popen.terminate()  # no error: it is gone


def test_several_threads_start_and_end_them(tmp_path):
    def status(number: int) -> int:
        argv = [sys.executable, "-c", f"raise SystemExit({number})"]
        running = Fork(argv, cwd=str(ROOT), env={}, out=os.devnull)
        while (found := running.poll()) is None:  # as often as possible: a status can be received once
            pass
        return found

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(status, range(1, 61))) == list(range(1, 61))


def test_the_main_module_is_not_loaded_again(tmp_path):
    log, main = tmp_path / "log", tmp_path / "main.py"
    main.write_text(
        textwrap.dedent(f"""
        import os, sys
        from embedded.forks.fork import Fork
        os.write(1, f"main of {{__name__}}, ".encode())
        one = Fork([sys.executable, "-c", "print('here')"], cwd=".", env={{}}, out={str(log)!r})
        print(one.wait(60), sys.modules["__main__"].__file__ == __file__)
        """)
    )
    argv, environment = [sys.executable, str(main)], os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("main of __main__, 0 True\n", 0), done.stderr
    assert log.read_text() == "here\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_it_dies_with_the_tests(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import os, time; print(os.getpid()); time.sleep(600)")
    tests = tmp_path / "pretended_tests.py"
    tests.write_text(
        textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from embedded.forks.child import Forked
        if __name__ == "__main__":
            here = Path({str(tmp_path)!r})
            env = {{"PYTHONUNBUFFERED": "1"}}
            Forked([sys.executable, "script.py"], log=here / "log", name="one", cwd=here, env=env)
            time.sleep(600)
        """)
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    with subprocess.Popen([sys.executable, str(tests)], cwd=ROOT, env=environment) as running:
        log = tmp_path / "log"
        eventually(lambda: log.exists() and log.read_text().endswith("\n"))
        running.kill()
    eventually(lambda: not os.path.exists(f"/proc/{int(log.read_text())}"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_without_the_fork_server_they_end_and_another_starts(tmp_path):
    tests = tmp_path / "pretended_tests.py"
    tests.write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        import psutil
        from embedded.forks import fork
        def started():
            return fork.Fork([sys.executable, "-c", "import sys, time; print('django' in sys.modules); time.sleep(600)"],
                             cwd=".", env={{"PYTHONUNBUFFERED": "1"}}, out={str(tmp_path / "log")!r})
        if __name__ == "__main__":
            fork.prepare()
            first = started()
            os.kill(psutil.Process(first.pid).ppid(), signal.SIGKILL)
            print(first.wait(60))
            second = started()
            print(second.poll())
            while not Path({str(tmp_path / "log")!r}).read_text().endswith("True\\n"):
                pass
            second.kill()
            print(second.wait(60))
        """)
    )
    argv, environment = [sys.executable, str(tests)], os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split(), done.returncode) == (["255", "None", "-9"], 0), done.stderr
