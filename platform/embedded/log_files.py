"""The log files of `make up`: the output of each process in var/log/, bounded in size, for `manage.py story` and for grep."""

import contextlib
import os
import re
from pathlib import Path
from typing import IO

MOST_BYTES = 5_000_000
"""The size at which a file becomes `NAME.log.1`, which replaces the previous one."""

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class LogFiles:
    """One file per process, readable by the owner alone. A full disk costs log lines, and does not stop the system."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._files: dict[str, IO[bytes]] = {}
        folder.mkdir(mode=0o700, exist_ok=True)

    def write(self, name: str, line: str) -> None:
        """Append a line of a process, without colours."""
        with contextlib.suppress(OSError):
            file = self._files.get(name) or self._open(name)
            file.write(_STYLE.sub("", line).encode() + b"\n")
            if file.tell() >= self._most_bytes:
                self._files.pop(name).close()
                self._path(name).replace(self._folder / f"{name}.log.1")

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _open(self, name: str) -> IO[bytes]:
        descriptor = os.open(self._path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._files[name] = file = open(descriptor, "ab", buffering=0)  # noqa: SIM115  closed by `close`
        file.seek(0, os.SEEK_END)
        return file
