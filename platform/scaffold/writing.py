"""Writes the files to the repository: all of them, or none if anything fails."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scaffold.errors import ScaffoldError


class Journal:
    """Records what is added to the repository and changed in it, so that it can be undone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: list[Path] = []
        self._watched: list[Path] = []
        self._before: dict[Path, bytes] = {}
        self._added: list[Path] = []

    def add(self, files: Path) -> None:
        """Copy every file below this folder to the same place in the repository.

        Raises ScaffoldError if one of them exists.
        """
        for source in sorted(path for path in files.rglob("*") if path.is_file()):
            target = self._root / source.relative_to(files)
            if target.exists():
                raise ScaffoldError(f"{target.relative_to(self._root)} already exists")
            self._make_folder(target.parent)
            self._added.append(target)
            shutil.copyfile(source, target)

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            self._make_folder(folder.parent)
            self._folders.append(folder)
            folder.mkdir()

    def watch(self, *places: str) -> None:
        """Save the content of these files, and of those in these folders, before a command changes them. Raises OSError."""
        watched = [self._root / place for place in places]
        # Watched only after all files are read: undo deletes every file in a watched place whose content is not saved.
        self._before |= {path: path.read_bytes() for path in _files(watched)}
        self._watched += watched

    def changed(self) -> list[Path]:
        """The files that are new or changed in the watched places, relative to the repository."""
        files = _files(self._watched)
        return [path.relative_to(self._root) for path in files if path.read_bytes() != self._before.get(path)]

    def undo(self) -> None:
        """Restore the repository. The created folders are deleted with the bytecode that Python cached in them."""
        for path in _files(self._watched):
            if path not in self._before:
                path.unlink()
        for path, content in self._before.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
        for path in self._added:
            path.unlink(missing_ok=True)
        for folder in reversed(self._folders):
            shutil.rmtree(folder, ignore_errors=True)


def _files(places: Iterable[Path]) -> list[Path]:
    found = {path for place in places for path in (place, *place.rglob("*"))}
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


@contextmanager
def all_or_nothing(root: Path) -> Iterator[Journal]:
    """A journal that is undone if the block raises any exception, including Ctrl-C."""
    journal = Journal(root)
    try:
        yield journal
    except BaseException:
        journal.undo()
        raise
