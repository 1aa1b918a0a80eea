"""What is written from the declarations, for formats that cannot read Python: `python -m services --write`."""

import re
from collections.abc import Iterator
from pathlib import Path

from services.declaration import Service

# [^\]]: a list on one line; behind it a comment that says which services it holds.
LIST = re.compile(
    r"\[(?P<items>[^\]\n]*)\](?P<comment>  # services: (?P<which>all|behind the gateway)(?:, generated)?)$",
    re.MULTILINE,
)
NAMED = re.compile(r'"([^"]*)"')


def files(root: Path, services: tuple[Service, ...]) -> Iterator[tuple[Path, str]]:
    """Each generated file below `root`, and what it must hold."""
    project = root / "pyproject.toml"
    yield project, _with_lists(project.read_text(encoding="utf-8"), root, services)


def _with_lists(text: str, root: Path, services: tuple[Service, ...]) -> str:
    """`text` with the services in each list that says so; what is no service, as `chassis`, stays in front of them."""

    def replaced(match: re.Match[str]) -> str:
        kept = [name for name in NAMED.findall(match["items"]) if _is_platform(root, name)]
        names = [one.name for one in services if match["which"] == "all" or not one.edge]
        return "[" + ", ".join(f'"{name}"' for name in [*kept, *names]) + "]" + match["comment"]

    return LIST.sub(replaced, text)


def _is_platform(root: Path, name: str) -> bool:
    return (root / "platform" / name).is_dir() or name in {"settings", "tests", "bench", "chaos"}
