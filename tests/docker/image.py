"""The files that `docker build` would copy, derived from Dockerfile and .dockerignore."""

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

from tests.settings.services import ROOT, SERVICE_NAMES

DOCKERFILE = ROOT / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of each instruction, with continuation lines joined."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage."""
    found: list[list[tuple[str, str]]] = []
    for name, arguments in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, arguments))
    return found


def context() -> set[str]:
    """The files in the build context: the last matching line of .dockerignore decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    candidates = [ROOT / name for name in ("manage.py", "requirements.txt", "requirements-dev.txt", ".gitignore")]
    for folder in ("settings", "platform", *SERVICE_NAMES, "docker", "tests", "deploy", "docs"):
        candidates += (path for path in (ROOT / folder).rglob("*") if path.is_file())
    names = (path.relative_to(ROOT).as_posix() for path in candidates)
    return {name for name in names if _is_included(name, rules)}


def _is_included(name: str, rules: list[str]) -> bool:
    seen = True
    for rule in rules:
        if _matches(name, rule.removeprefix("!")):
            seen = rule.startswith("!")
    return seen


def _matches(name: str, pattern: str) -> bool:
    """Whether the pattern matches the file or one of its folders; `**/` matches any depth."""
    parts = name.split("/")
    for end in range(1, len(parts) + 1):
        path = parts[:end]
        if pattern.startswith("**/"):
            if fnmatch(path[-1], pattern.removeprefix("**/")):
                return True
        elif len(path) == len(pattern.split("/")) and all(map(fnmatch, path, pattern.split("/"))):
            return True
    return False


def assemble(target: Path) -> None:
    """Copy to `target` the files that the stage `application` copies to /srv."""
    seen = context()
    for name, arguments in stages()[1]:
        if name != "COPY":
            continue
        source, destination = arguments.split()
        files = [file for file in seen if source in (".", file) or file.startswith(f"{source}/")]
        assert files, f"COPY {source}: it is not in the build context"
        for file in files:
            inside = file if source == "." else file.removeprefix(source).lstrip("/")
            place = target / destination / (inside or (source if destination == "./" else ""))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, place)
