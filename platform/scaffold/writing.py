"""Putting the files into the repository: all of them, or, when anything fails, none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaffold.errors import ScaffoldError


class Journal:
    """What was added to the repository and what was changed in it, so that it can be undone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before: dict[Path, bytes | None] = {}
        self._folders: list[Path] = []
        self.added: list[Path] = []

    def watch(self, path: Path) -> None:
        """Remember a file that something else is about to write."""
        self._before.setdefault(path, path.read_bytes() if path.exists() else None)

    def add(self, files: Path) -> None:
        """Put every file below this folder to the same place in the repository. Raises ScaffoldError for one that is there."""
        for source in sorted(path for path in files.rglob("*") if path.is_file()):
            target = self._root / source.relative_to(files)
            if target.exists():
                raise ScaffoldError(f"{target.relative_to(self._root)} exists already")
            self._make_folder(target.parent)
            self._before[target] = None
            shutil.copyfile(source, target)
            self.added.append(target)

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            self._make_folder(folder.parent)
            self._folders.append(folder)
            folder.mkdir()

    def undo(self) -> None:
        """As it was before: each file, and the folders that were made, with what Python cached in them."""
        for path, content in self._before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        for folder in reversed(self._folders):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def all_or_nothing(root: Path) -> Iterator[Journal]:
    """A journal that is undone when the block is left by any exception, Ctrl-C included."""
    journal = Journal(root)
    try:
        yield journal
    except BaseException:
        journal.undo()
        raise
