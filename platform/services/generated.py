"""Generates the parts of files that `make generate` derives from the declarations, for formats that cannot read Python.

These are whole files, `deploy/kubernetes/<service>.yaml`; lists on one line that ends in `# services: <which>, generated`;
and blocks between the lines `# services: <what>, generated` and `# end of generated`. The rest of those files is written
by hand.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from services import compose, kubernetes, prometheus
from services.declaration import FOLDERS, PACKAGES, Service

Services = tuple[Service, ...]

WITH_LISTS_OR_BLOCKS = (
    "pyproject.toml",
    ".dockerignore",
    "docker/compose.yaml",
    "docker/make-secrets",
    "docker/postgres/databases.sh",
    "docker/prometheus/prometheus.yml",
    "deploy/kubernetes/README.md",
    "deploy/kubernetes/common.yaml",
    "deploy/kubernetes/kustomization.yaml",
    "deploy/kubernetes/network-policies.yaml",
)

LISTS: dict[str, Callable[[Service], object]] = {
    "all": lambda service: True,
    "behind the gateway": lambda service: not service.edge,
    "with a database": lambda service: service.database,
    "with kafka": lambda service: service.uses_kafka,
}

BLOCKS: dict[str, Callable[[Services], list[str]]] = {
    "containers": compose.containers,
    "upstream urls": compose.upstream_urls,
    "upstream conditions": compose.upstream_conditions,
    "secrets": compose.secrets,
    "database passwords": compose.database_passwords,
    "secret commands": kubernetes.secret_commands,
    "manifests": lambda services: [f"- {one.name}.yaml" for one in services if not one.edge],
    "scrape targets": prometheus.scrape_targets,
    "folders": lambda services: [f"!{one.name}" for one in services],
    "names": lambda services: [f'services="{" ".join(one.name for one in services)}"'],
    "databases": lambda services: [
        f'databases="{" ".join(f"{one.name}:{one.database}" for one in services if one.database)}"'
    ],
}

LIST = re.compile(r"\[(?P<items>[^\]\n]*)\](?P<comment> +# services: (?P<which>[a-z ]+), generated)$", re.MULTILINE)
BLOCK = re.compile(
    r"^(?P<indent> *)# services: (?P<what>[a-z ]+), generated\n.*?^ *# end of generated$", re.MULTILINE | re.DOTALL
)


def files(root: Path, services: Services) -> Iterator[tuple[Path, str]]:
    """Each generated file below `root`, with its content."""
    for name in WITH_LISTS_OR_BLOCKS:
        path = root / name
        text = LIST.sub(lambda match: _list(match, services), path.read_text(encoding="utf-8"))
        yield path, BLOCK.sub(lambda match: _block(match, services), text)
    for service in services:
        if not service.edge:
            yield root / kubernetes.FOLDER / f"{service.name}.yaml", kubernetes.manifest(root, service)


def orphans(root: Path, services: Services) -> list[Path]:
    """Manifests of services that no longer exist."""
    names = {f"{service.name}.yaml" for service in services}
    written = (
        path for path in (root / kubernetes.FOLDER).glob("*.yaml") if path.read_text().startswith(kubernetes.MARK)
    )
    return [path for path in written if path.name not in names]


def stale(root: Path, services: Services) -> list[Path]:
    """The files that are out of date or should not exist."""
    changed = (path for path, text in files(root, services) if not path.exists() or path.read_text() != text)
    return [*changed, *orphans(root, services)]


def _list(match: re.Match[str], services: Services) -> str:
    items = [item.strip() for item in match["items"].split(",") if item.strip()]
    quote = '"' if items[0].startswith('"') else ""
    kept = [item for item in items if item.strip('"') in FOLDERS | PACKAGES]
    names = [f"{quote}{one.name}{quote}" for one in services if LISTS[match["which"]](one)]
    return f"[{', '.join([*kept, *names])}]{match['comment']}"


def _block(match: re.Match[str], services: Services) -> str:
    indent = match["indent"]
    lines = [f"{indent}{line}".rstrip() for line in BLOCKS[match["what"]](services)]
    return "\n".join([f"{indent}# services: {match['what']}, generated", *lines, f"{indent}# end of generated"])
