"""The broker's jars: fetched once from Maven Central, each verified against the SHA-256 locked in this repository."""

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
# Repository URLs by name; None is Maven Central.
REPOSITORIES: dict[str, str] | None = None
CONCURRENT_DOWNLOADS = 8
ATTEMPTS = 3


@dataclass(frozen=True)
class Jar:
    """An artifact, by its Maven coordinates, with its locked hash."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name of its file in the cache. It includes the group, since two groups can use the same artifact name."""
        return f"{self.group}.{self.artifact}-{self.version}.jar"


def locked(path: Path = LIST) -> list[Jar]:
    """The jars in the lock file, in its order, which is the order of the class path."""
    jars = []
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            coordinates, sha256 = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return jars


def fetch() -> list[Path]:
    """Return the paths of all jars of the broker, downloading those that are missing or damaged.

    Concurrent processes wait for each other. Raises Corrupt if the hash of a download differs from the locked one, and
    EmbeddedError if a download fails.
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
    """Whether the file exists and has the locked hash."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _download_all(missing: list[Jar], folder: Path) -> None:
    pool = ThreadPoolExecutor(CONCURRENT_DOWNLOADS, thread_name_prefix="jars")
    with cache.temporary_folder("fetching") as staging:
        try:
            futures = [pool.submit(_download, jar, staging, folder) for jar in missing]
            for future in _with_progress(as_completed(futures), len(futures)):
                future.result()
        finally:
            # Do not wait for a stalled download: it writes only to the temporary folder.
            pool.shutdown(wait=False, cancel_futures=True)


def _with_progress(futures: Iterable, total: int) -> Iterable:  # type: ignore[type-arg]
    from rich.progress import track

    return track(futures, description=f"Fetching Apache Kafka {KAFKA_VERSION}", total=total, transient=False)


def _download(jar: Jar, staging: Path, folder: Path) -> None:
    """Fetch one jar without its dependencies: a resolved tree mixes incompatible versions."""
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.ERROR)
    for attempt in range(1, ATTEMPTS + 1):
        context = MavenContext(
            repo_cache=staging / f"{jar.filename}-{attempt}", local_repos=[], remote_repos=REPOSITORIES, timeout=30
        )
        try:
            path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
            break
        except Exception as error:  # jgo lets the errors of its HTTP library propagate
            if attempt == ATTEMPTS:
                raise EmbeddedError(f"could not download {jar.filename}: {error}. Check the network.") from error
    if not is_intact(path, jar):
        raise Corrupt(f"{jar.filename} is not the file that {LIST.name} locks: its SHA-256 differs. It was not kept.")
    path.replace(folder / jar.filename)
