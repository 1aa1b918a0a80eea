"""How a fork becomes a program: what the system and the interpreter do at the start and at the end of one."""

import contextlib
import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
import types
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

PR_SET_PDEATHSIG = 1
ARG_START, ARG_END = 47, 48
"""Which fields of /proc/PID/stat are the addresses of the command line, counted from 0: proc_pid_stat(5)."""


def require(module: str) -> None:
    """End with an error if this module is not loaded."""
    if module not in sys.modules:
        sys.exit(1)


def run(argv: list[str], *, cwd: str, env: Mapping[str, str], out: str | Connection, err: str | None) -> None:
    """Execute `python [-P] SCRIPT ...`, `python -m MODULE ...` or `python -c CODE ...`. See Fork. Does not return."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if not _is_wanted():  # who has asked for it died before the previous line
            os._exit(1)
        _show_as(argv)
    _redirect(out, err)
    _close_all_others()
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
    except BaseException:  # noqa: BLE001  as the interpreter does
        sys.excepthook(*sys.exc_info())
        status = 1
    # Joins threads and calls the functions that are registered with atexit, which the end of a fork otherwise does not.
    ctypes.pythonapi.Py_Exit(status)


def _is_wanted() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


def _show_as(argv: list[str]) -> None:
    """Replace the command line of the fork server, which `ps` would show, as far as there is room."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(fields[number - 2]) for number in (ARG_START, ARG_END))
    if not start < end - 2:  # some sandboxes do not tell
        return
    shown = b" ".join(map(os.fsencode, argv)).ljust(end - start - 1, b"\0")[: end - start - 2]
    # A last byte other than NUL tells the kernel that this is a title, which ends at the first NUL.
    ctypes.memmove(start, shown + b"\0\1", end - start)


def _redirect(out: str | Connection, err: str | None) -> None:
    """Standard input is empty, output and errors go where they should."""
    _open(os.devnull, 0, os.O_RDONLY)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  it is the program's
    if isinstance(out, str):
        _open(out, 1, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    else:
        os.dup2(out.fileno(), 1)
        out.close()  # not later, when the number may be that of another file
    if err is None:
        os.dup2(1, 2)
    else:
        _open(err, 2, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _close_all_others() -> None:
    """Close what the fork server has open, such as the connection by which it learns that its parent has ended."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(int(name))


def _open(path: str, number: int, flags: int) -> None:
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
        exec(compile(arguments[1], "<string>", "exec"), main.__dict__)  # noqa: S102  it is the program
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
