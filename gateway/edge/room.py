"""How much the bodies of all requests and answers may take of memory and of files, and how a file is made."""

import tempfile
from typing import IO

PIECE = 65_536
"""Bytes that are read from a file at a time."""


class Room:
    """What all bodies together take, and may take; bytes."""

    __slots__ = ("files", "max_files", "max_memory", "memory")

    def __init__(self, *, max_memory: int, max_files: int) -> None:
        self.max_memory = max_memory
        self.max_files = max_files
        self.memory = 0
        self.files = 0

    def reserve_memory(self, size: int) -> bool:
        """Count `size` more bytes in memory; False where there is no room for them."""
        if self.memory + size > self.max_memory:
            return False
        self.memory += size
        return True

    def reserve_file(self, size: int) -> bool:
        """The same for files."""
        if self.files + size > self.max_files:
            return False
        self.files += size
        return True


def make_file() -> IO[bytes]:
    """An empty file without a name, gone when it is closed. Raises OSError."""
    return tempfile.TemporaryFile(buffering=0)


def write(file: IO[bytes], data: bytes) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
