"""docker/compose.yaml as data, with its variables filled in as compose does."""

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
    """The file, each variable at its default."""
    return yaml.safe_load(_VARIABLE.sub(lambda match: match["default"], text()))


def services() -> dict[str, dict[str, Any]]:
    return load()["services"]


def ours() -> dict[str, dict[str, Any]]:
    """The containers that run our image."""
    return {name: service for name, service in services().items() if "build" in service}


def module(service: dict[str, Any]) -> str:
    """Which of our services a container runs."""
    return service["environment"]["DJANGO_SETTINGS_MODULE"].removeprefix("settings.")
