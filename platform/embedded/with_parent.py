"""Runs a program that the kernel ends when its parent dies: `python -IS with_parent.py SIGNAL PARENT UID GID PROGRAM [ARGUMENT ...]`.

It becomes the program, so that this has the process id that the parent knows. UID and GID are empty, or those of another user.

Subprocess could run the same lines between fork and exec (`preexec_fn`), but then Python runs in a copy of a process without its
threads. What these held is destroyed there, and the destruction of a Kafka client waits for its threads forever, and the parent for
the copy.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_RUN = 127
"""The exit status, as a shell has it."""


def main() -> None:
    """Become the program."""
    _restore_signals()
    death_signal, parent, uid, gid, *argv = sys.argv[1:]
    if uid:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":  # after the change of user, which cancels it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != int(parent):  # the parent died before the previous line
        sys.exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606  no shell is needed
    except OSError as error:
        print(f"cannot run {argv[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(CANNOT_RUN)


def _restore_signals() -> None:
    """Undo what Python does to signals at its start. A program inherits which signals are ignored."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise the parent ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
