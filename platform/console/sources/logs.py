"""Follows the log files of the processes, var/log/NAME.log of `make up`, also when they are rotated."""

import os
import threading
import time
from pathlib import Path
from typing import IO

from console.failures import Source
from console.stores.model import Line
from console.stores.stories import Stories

EVERY_SECONDS = 0.1
SHARE = 1 / 40
"""The part of a core that is used for reading at most. The pauses grow with the load, and what does not fit is skipped."""
MOST_BYTES = 65_536
"""How much of a file is read at once. Of a file that grows faster, the oldest part is skipped."""
SKIPPED = frozenset({"console"})
"""The console does not read its own log."""


class LogFiles:
    """Reads the lines that are appended to all files of a folder from now on."""

    def __init__(self, folder: Path, stories: Stories) -> None:
        self.source = Source("The log files")
        self.skipped_bytes = 0
        """How much was not read, because it was written too fast."""
        self._folder = folder
        self._stories = stories
        self._files: dict[str, _File] = {}
        self._is_first = True

    def run(self, ended: threading.Event) -> None:
        """Read until `ended` is set."""
        while not ended.is_set():
            began = time.thread_time()
            self.read()
            ended.wait(max(EVERY_SECONDS, (time.thread_time() - began) * (1 / SHARE - 1)))

    def read(self) -> None:
        """Read once what is new."""
        try:
            names = sorted(path.stem for path in self._folder.glob("*.log")) if self._folder.is_dir() else None
            if names is None:
                raise FileNotFoundError(f"there is no folder {self._folder}; `make up` writes it")
            for name in names:
                if name not in SKIPPED:
                    self._read(name)
        except OSError as error:
            self.source.failed(error)
        else:
            self.source.answered()
        self._is_first = False

    def _read(self, name: str) -> None:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = _File(self._folder / f"{name}.log", from_end=self._is_first)
        before: Line | None = file.last
        texts, skipped = file.new_lines()
        self.skipped_bytes += skipped
        for text in texts:
            before = self._stories.read_line(name, text, before)
        file.last = before
        if texts:
            self._stories.notify()


class _File:
    """A file, which may be renamed and replaced by a new one while it is read."""

    def __init__(self, path: Path, *, from_end: bool) -> None:
        self.last: Line | None = None
        self._path = path
        self._open: IO[bytes] | None = None
        self._rest = b""
        self._from_end = from_end

    def new_lines(self) -> tuple[list[str], int]:
        """The lines that were appended, and how many bytes were skipped. Raises OSError."""
        lines, skipped = self._read_open()
        if self._open is None or self._was_replaced():
            # What was written to the old one before it was replaced has been read.
            if self._open is not None:
                self._open.close()
            self._open, self._rest = self._path.open("rb"), b""
            if self._from_end:
                self._open.seek(0, os.SEEK_END)
            self._from_end = False
            more, more_skipped = self._read_open()
            return lines + more, skipped + more_skipped
        return lines, skipped

    def _read_open(self) -> tuple[list[str], int]:
        if self._open is None:
            return [], 0
        position, size = self._open.tell(), os.fstat(self._open.fileno()).st_size
        if size < position:  # truncated
            position = self._open.seek(0)
            self._rest = b""
        skipped = max(0, size - position - MOST_BYTES)
        if skipped:
            self._open.seek(size - MOST_BYTES)
            self._rest = b""
        data = self._rest + self._open.read(MOST_BYTES)
        whole, newline, self._rest = data.rpartition(b"\n")
        if not newline:
            self._rest = data[-MOST_BYTES:]
            return [], skipped
        lines = whole.split(b"\n")[1 if skipped else 0 :]  # the first one is cut
        return [line.decode("utf-8", "replace").rstrip() for line in lines if line.strip()], skipped

    def _was_replaced(self) -> bool:
        assert self._open is not None
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(self._open.fileno())
        return (there.st_ino, there.st_dev) != (held.st_ino, held.st_dev)
