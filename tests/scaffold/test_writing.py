"""All files of a service are written, or none is."""

from pathlib import Path

import pytest

from scaffold.errors import ScaffoldError
from scaffold.writing import all_or_nothing


def tree(root) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def put(root, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def root(tmp_path):
    put(tmp_path / "root", {"tests/a.py": "a", "docs/page.md": "old", "docs/other.md": "same"})
    return tmp_path / "root"


@pytest.fixture
def new(tmp_path):
    put(
        tmp_path / "new",
        {"stock/models.py": "models", "stock/migrations/0001.py": "one", "tests/stock/test.py": "test"},
    )
    return tmp_path / "new"


def generate(root, journal) -> None:
    journal.watch("docs", "later")
    put(root, {"docs/page.md": "new", "docs/more/page.md": "more", "later/file": "file"})


class Unreadable(type(Path())):
    """A path below which no file can be read, even by root."""

    def read_bytes(self) -> bytes:
        raise PermissionError(self)


def test_everything_is_present(root, new):
    with all_or_nothing(root) as journal:
        journal.add(new)
        generate(root, journal)

    assert tree(root) == tree(new) | {
        "tests/a.py": "a",
        "docs/page.md": "new",
        "docs/other.md": "same",
        "docs/more/page.md": "more",
        "later/file": "file",
    }
    assert list(map(str, journal.changed())) == ["docs/more/page.md", "docs/page.md", "later/file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ScaffoldError, SystemExit])
def test_a_failure_leaves_nothing_behind(root, new, error):
    def write() -> None:
        with all_or_nothing(root) as journal:
            journal.add(new)
            put(root, {"stock/__pycache__/models.pyc": "cache"})
            generate(root, journal)
            raise error

    before = tree(root)
    with pytest.raises(error):
        write()

    assert tree(root) == before
    assert sorted(path.name for path in root.iterdir() if any(path.iterdir())) == ["docs", "tests"]
    assert not (root / "stock").exists()
    assert not (root / "tests" / "stock").exists()


def test_a_file_that_cannot_be_read_leaves_all_others_as_they_were(root, new):
    def write() -> None:
        with all_or_nothing(Unreadable(root)) as journal:
            journal.add(new)
            journal.watch("docs")

    before = tree(root)
    with pytest.raises(PermissionError):
        write()

    assert tree(root) == before


def test_a_file_that_a_command_deleted_is_restored(root):
    def write() -> None:
        with all_or_nothing(root) as journal:
            journal.watch("docs")
            (root / "docs/page.md").unlink()
            raise ScaffoldError

    before = tree(root)
    with pytest.raises(ScaffoldError):
        write()

    assert tree(root) == before


def test_no_existing_file_is_replaced(root, new):
    put(root, {"tests/stock/test.py": "mine"})
    before = tree(root)

    with pytest.raises(ScaffoldError, match=r"tests/stock/test\.py already exists"), all_or_nothing(root) as journal:
        journal.add(new)

    assert tree(root) == before
