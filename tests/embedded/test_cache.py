import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from embedded import cache
from embedded.system import ROOT
from tests.waiting import eventually

HOLD = """
import sys; sys.path.append("platform")
from embedded import cache
with cache.temporary_folder("held") as folder:
    (folder / "data").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


class TestHome:
    def test_it_is_where_the_environment_says(self, own_cache: Path) -> None:
        assert cache.home() == own_cache
        assert own_cache.is_dir()

    def test_a_relative_path_in_the_environment_is_ignored(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
        monkeypatch.setenv("HOME", str(tmp_path))

        assert cache.home() == tmp_path / ".cache" / "django-microservices"


def test_a_folder_is_accessible_only_if_all_its_parents_are(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for part in (inner, inner.parent):
        part.chmod(0o755)
    before = cache.accessible_to_others(inner)
    inner.parent.chmod(0o700)

    assert before == cache.accessible_to_others(tmp_path)
    assert not cache.accessible_to_others(inner)


class TestThrowaway:
    def test_it_is_deleted_afterwards_also_after_an_error(self, own_cache: Path) -> None:
        def fail() -> None:
            with cache.temporary_folder("run") as folder:
                (folder / "file").write_text("x")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()

        assert list((own_cache / "runs").iterdir()) == []

    def test_folders_of_killed_runs_are_deleted_and_those_of_running_ones_are_not(self, own_cache: Path) -> None:
        killed, living = holder(), holder()
        folders = [Path(process.stdout.readline().strip()) for process in (killed, living)]
        killed.kill()
        killed.wait()
        try:
            with cache.temporary_folder("next") as mine:
                left = set((own_cache / "runs").iterdir())
        finally:
            living.communicate("")

        assert left == {mine, folders[1]}
        assert list((own_cache / "runs").iterdir()) == []


def test_a_lock_is_waited_for(own_cache: Path) -> None:
    code = 'import sys; sys.path.append("platform")\nfrom embedded import cache\nwith cache.lock("it"): print("mine")'
    with cache.lock("it"):
        other = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.5)

    assert other.communicate(timeout=60)[0] == "mine\n"


def test_a_lock_is_released_when_its_owner_exits(own_cache: Path) -> None:
    owner = holder()
    folder = Path(owner.stdout.readline().strip())
    owner.kill()
    owner.wait()

    def is_free() -> bool:
        with (folder / "owner").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True

    assert eventually(is_free, within=60)
