"""docker/compose.yaml as data, with variables interpolated like compose."""

import re
from functools import cache
from typing import Any

import yaml

from tests.settings.services import ROOT

FILE = ROOT / "docker" / "compose.yaml"

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+):-(?P<default>[^}]*)\}")


@cache
def text() -> str:
    return FILE.read_text(encoding="utf-8")


@cache
def load() -> dict[str, Any]:
    """The file, with the default of each variable."""
    return yaml.safe_load(_VARIABLE.sub(lambda match: match["default"], text()))


def services() -> dict[str, dict[str, Any]]:
    return load()["services"]


def ours() -> dict[str, dict[str, Any]]:
    """The containers of this repository's image."""
    return {name: service for name, service in services().items() if "build" in service}


def module(service: dict[str, Any]) -> str:
    """The service that a container runs."""
    return service["environment"]["DJANGO_SETTINGS_MODULE"].removeprefix("settings.")
