"""Renders deploy/kubernetes like `kubectl kustomize`, as far as these manifests need."""

import re
from functools import cache
from typing import Any

import yaml

from tests.settings.services import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"

Manifest = dict[str, Any]


@cache
def render() -> dict[tuple[str, str], Manifest]:
    """All patched objects, by kind and name."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    objects = [
        thing for name in kustomization["resources"] for thing in yaml.safe_load_all((FOLDER / name).read_text())
    ]
    for patch in kustomization["patches"]:
        change = yaml.safe_load((FOLDER / patch["path"]).read_text())
        for thing in objects:
            if _is_target(thing, patch["target"]):
                _json_patch(thing, change) if isinstance(change, list) else _merge(thing["spec"], change["spec"])
    return {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects}


def of_kind(*kinds: str) -> dict[str, Manifest]:
    """The objects of these kinds, by name."""
    return {name: thing for (kind, name), thing in render().items() if kind in kinds}


def pod(thing: Manifest) -> Manifest:
    """The pod spec of a workload."""
    spec = thing["spec"]["jobTemplate"]["spec"] if thing["kind"] == "CronJob" else thing["spec"]
    return spec["template"]["spec"]


def _is_target(thing: Manifest, target: dict[str, str]) -> bool:
    named = bool(re.fullmatch(target.get("name", ".*"), thing["metadata"]["name"]))
    return thing["kind"] == target["kind"] and named and _is_selected(thing, target.get("labelSelector", ""))


def _is_selected(thing: Manifest, selector: str) -> bool:
    labels = thing["metadata"].get("labels", {})
    for condition in filter(None, selector.split(",")):
        name, operator, value = re.fullmatch(r"([^!=]+)(!=|=)(.+)", condition).groups()
        if (labels.get(name) == value) != (operator == "="):
            return False
    return True


def _merge(into: Manifest, change: Manifest) -> None:
    """Strategic merge: objects by key, lists of named objects by name."""
    for key, value in change.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                identity = "mountPath" if key == "volumeMounts" else "name"
                same = [have for have in into.setdefault(key, []) if have[identity] == item.get(identity)]
                _merge(same[0], item) if same else into[key].append(item)
        else:
            into[key] = value


def _json_patch(thing: Manifest, operations: list[dict[str, Any]]) -> None:
    for operation in operations:
        *path, last = operation["path"].strip("/").split("/")
        place: Any = thing
        for step in path:
            place = place[int(step)] if isinstance(place, list) else place[step]
        place[last] = operation["value"]
