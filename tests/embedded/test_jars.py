"""Downloading the jars from a Maven repository of the test, by the same code as from Maven Central."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embedded import jars
from embedded.errors import Corrupt, EmbeddedError
from embedded.jars import Jar

CONTENT = {"one": b"first jar" * 1000, "two": b"second jar" * 1000}


def put(repository: Path, name: str, content: bytes) -> None:
    folder = repository / "org" / "example" / name / "1.0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-1.0.jar").write_bytes(content)
    (folder / f"{name}-1.0.jar.sha1").write_text(hashlib.sha1(content).hexdigest())


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing: the test looks at what arrived."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path):
    folder = tmp_path / "repository"
    for name, content in CONTENT.items():
        put(folder, name, content)
    listed = tmp_path / "list.txt"
    listed.write_text(
        "# comment\n" + "".join(f"org.example:{n}:1.0 {hashlib.sha256(c).hexdigest()}\n" for n, c in CONTENT.items())
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(jars, "REPOSITORIES", {"test": f"http://127.0.0.1:{server.server_port}"})
        monkeypatch.setattr(jars.locked, "__defaults__", (listed,))
        yield folder
        server.shutdown()


def test_the_list_locks_every_jar_of_the_broker() -> None:
    locked = jars.locked()

    assert len(locked) == 46
    assert len({jar.filename for jar in locked}) == 46
    assert all(len(jar.sha256) == 64 for jar in locked)
    assert {"kafka_2.13", "kafka-clients", "log4j-core"} <= {jar.artifact for jar in locked}


def test_all_jars_are_downloaded_into_the_cache(repository: Path, own_cache: Path) -> None:
    paths = jars.fetch()

    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert {path.parent for path in paths} == {own_cache / "jars"}
    assert list((own_cache / "runs").iterdir()) == []


def test_cached_jars_are_not_downloaded_again(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = jars.fetch()
    monkeypatch.setattr(jars, "REPOSITORIES", {"test": "http://127.0.0.1:1"})

    assert jars.fetch() == first


def test_a_damaged_jar_is_fetched_again(repository: Path) -> None:
    damaged = jars.fetch()[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")

    jars.fetch()

    assert damaged.read_bytes() == CONTENT["two"]


def test_a_file_other_than_the_locked_one_is_rejected_and_not_kept(repository: Path, own_cache: Path) -> None:
    put(repository, "two", b"something else")

    with pytest.raises(Corrupt, match=r"two-1\.0\.jar"):
        jars.fetch()

    assert not (own_cache / "jars" / "org.example.two-1.0.jar").exists()
    assert list((own_cache / "runs").iterdir()) == []


def test_a_jar_that_cannot_be_downloaded_is_named(repository: Path) -> None:
    (repository / "org/example/one/1.0/one-1.0.jar").unlink()

    with pytest.raises(EmbeddedError, match=r"could not download org\.example\.one-1\.0\.jar"):
        jars.fetch()


@pytest.mark.parametrize("content", [b"", b"wrong"])
def test_a_file_with_another_hash_is_not_intact(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jar"
    path.write_bytes(content)

    assert not jars.is_intact(path, Jar("g", "a", "1", "0" * 64))
    assert not jars.is_intact(tmp_path / "missing.jar", Jar("g", "a", "1", "0" * 64))
