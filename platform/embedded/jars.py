"""The broker's jars: fetched once from Maven Central, each checked against the sha256 that is locked in this repository."""

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from embedded import cache
from embedded.errors import Corrupt, EmbeddedError

KAFKA_VERSION = "4.3.1"
LIST = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}-jars.txt")
# Where from, by name; None is Maven Central.
REPOSITORIES: dict[str, str] | None = None
AT_ONCE = 8
TRIES = 3


@dataclass(frozen=True)
class Jar:
    """One artifact by its Maven coordinates, and what it must hash to."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name of its file in the cache; the group is in it, as two groups may use one artifact name."""
        return f"{self.group}.{self.artifact}-{self.version}.jar"


def locked(path: Path = LIST) -> list[Jar]:
    """The jars that the list names, in its order, which is the order of the class path."""
    jars = []
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            coordinates, sha256 = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return jars


def fetch() -> list[Path]:
    """The paths of all jars of the broker, downloading those that are missing or damaged.

    Two processes that do this at once do not disturb each other: the second waits for the first. Raises Corrupt when
    what comes from the network is not what was locked, and EmbeddedError when nothing comes.
    """
    folder = cache.home() / "jars"
    folder.mkdir(exist_ok=True)
    wanted = locked()
    if any(not is_intact(folder / jar.filename, jar) for jar in wanted):
        with cache.lock("jars"):
            missing = [jar for jar in wanted if not is_intact(folder / jar.filename, jar)]
            if missing:
                _download_all(missing, folder)
    return [folder / jar.filename for jar in wanted]


def is_intact(path: Path, jar: Jar) -> bool:
    """Whether the file is there and hashes to what is locked."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _download_all(missing: list[Jar], folder: Path) -> None:
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="jars")
    with cache.throwaway("fetching") as staging:
        try:
            futures = [pool.submit(_download, jar, staging, folder) for jar in missing]
            for future in _with_progress(as_completed(futures), len(futures)):
                future.result()
        finally:
            # Not waiting for a download that the network holds up: what it writes lands in the throw-away folder.
            pool.shutdown(wait=False, cancel_futures=True)


def _with_progress(futures: Iterable, total: int) -> Iterable:  # type: ignore[type-arg]
    from rich.progress import track

    return track(futures, description=f"Fetching Apache Kafka {KAFKA_VERSION}", total=total, transient=False)


def _download(jar: Jar, staging: Path, folder: Path) -> None:
    """Fetch one jar by itself: a resolved tree mixes versions that do not work together."""
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.ERROR)
    for attempt in range(1, TRIES + 1):
        context = MavenContext(
            repo_cache=staging / f"{jar.filename}-{attempt}", local_repos=[], remote_repos=REPOSITORIES, timeout=30
        )
        try:
            path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
            break
        except Exception as error:  # jgo raises whatever its HTTP library does
            if attempt == TRIES:
                raise EmbeddedError(f"could not fetch {jar.filename}: {error}. Is the network there?") from error
    if not is_intact(path, jar):
        raise Corrupt(
            f"{jar.filename} is not the file that {LIST.name} locks: its sha256 differs. Nothing was kept of it."
        )
    path.replace(folder / jar.filename)
