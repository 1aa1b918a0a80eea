"""How a fork becomes a program: what the system and the interpreter do at the start and at the end of one."""

import ctypes
import os
import runpy
import sys
import types
from collections.abc import Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1


def run(argv: list[str], *, cwd: str, env: Mapping[str, str], out: str, err: str, death_signal: int) -> None:
    """Execute `python [-P] SCRIPT ...`, `python -m MODULE ...` or `python -c CODE ...`, with its output appended to these files. Does not return."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    _redirect(os.devnull, 0, os.O_RDONLY)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  it is the program's
    _redirect(out, 1, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _redirect(err, 2, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    # Among these is the connection by which the fork server learns that the tests have ended.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if "PYTHONUNBUFFERED" in env:
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    try:
        _execute(argv[1:])
        status = 0
    except SystemExit as end:
        status = _status(end)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    # Joins threads and calls the functions that are registered with atexit, which the end of a fork otherwise does not.
    ctypes.pythonapi.Py_Exit(status)


def _redirect(path: str, number: int, flags: int) -> None:
    opened = os.open(path, flags, 0o666)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)


def _execute(arguments: list[str]) -> None:
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    if "PYTHONPATH" in os.environ:
        installed[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
    if arguments[0] == "-m":
        sys.argv, sys.path = ["-m", *arguments[2:]], [os.getcwd(), *installed]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv, sys.path = ["-c", *arguments[2:]], ["", *installed]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
    elif arguments[0] == "-P":
        sys.argv, sys.path = arguments[1:], installed
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        sys.argv, sys.path = arguments, [str(Path(arguments[0]).resolve().parent), *installed]
        runpy.run_path(sys.argv[0], run_name="__main__")


def _status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1
