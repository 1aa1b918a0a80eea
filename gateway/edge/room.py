"""The limits of memory and files for all buffered bodies, and temporary files."""

import tempfile
from typing import IO

PIECE = 65_536
"""How many bytes are read from a file at a time."""


class Room:
    """The usage and limits of all bodies together, in bytes."""

    __slots__ = ("files", "max_files", "max_memory", "memory")

    def __init__(self, *, max_memory: int, max_files: int) -> None:
        self.max_memory = max_memory
        self.max_files = max_files
        self.memory = 0
        self.files = 0

    def reserve_memory(self, size: int) -> bool:
        """Reserve bytes of memory. Returns False if the limit would be exceeded."""
        if self.memory + size > self.max_memory:
            return False
        self.memory += size
        return True

    def reserve_file(self, size: int) -> bool:
        """Reserve bytes in files. Returns False if the limit would be exceeded."""
        if self.files + size > self.max_files:
            return False
        self.files += size
        return True


def make_file() -> IO[bytes]:
    """Create an unnamed temporary file, which is deleted when closed. Raises OSError."""
    return tempfile.TemporaryFile(buffering=0)


def write(file: IO[bytes], data: bytes) -> None:
    """Write all data. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
