"""Functions, methods and classes that the documentation names exist: `chassis.messaging.outbox.publish`."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, inline, name

PACKAGES = "gateway|users|orders|payments|chassis|embedded|settings"
DOTTED = re.compile(rf"(?:{PACKAGES})(?:\.[A-Za-z_]\w*)+")
SUFFIXES = {"py", "yaml", "md", "key", "wsgi", "asgi"}


def module(parts: list[str]) -> tuple[Path, list[str]] | None:
    """The file of the longest prefix that is a module, and what is left; None if not even the first part is one."""
    for end in range(len(parts), 0, -1):
        for base in (ROOT, ROOT / "platform"):
            path = base.joinpath(*parts[:end])
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.exists():
                    return file, parts[end:]
    return None


@cache
def tree(file: Path) -> ast.Module:
    """The file, parsed: importing it would need its service's settings."""
    return ast.parse(file.read_text())


def defined(body: list[ast.stmt], attribute: str) -> ast.stmt | None:
    """What defines this name in a module or a class."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [statement.name]
        elif isinstance(statement, ast.Assign):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names = [statement.target.id]
        else:
            names = []
        if attribute in names:
            return statement
    return None


def source(body: list[ast.stmt], attribute: str) -> str:
    """Where a package has a name from that it passes on; empty if it does not."""
    for statement in body:
        if isinstance(statement, ast.ImportFrom) and attribute in {alias.name for alias in statement.names}:
            return f"{statement.module}.{attribute}"
    return ""


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or something that is defined in one."""
    found = module(dotted.split("."))
    if found is None:
        return False
    file, attributes = found
    body: list[ast.stmt] = tree(file).body
    for attribute in attributes:
        statement = defined(body, attribute)
        if statement is None:
            passed_on = source(body, attribute) if file.name == "__init__.py" else ""
            return bool(passed_on) and exists(".".join([passed_on, *attributes[1:]]))
        body = getattr(statement, "body", [])
    return True


def dotted(page: Path) -> set[str]:
    """The dotted names in a page's text."""
    texts = [text for text in inline(page) if DOTTED.fullmatch(text)]
    return {text for text in texts if text.rpartition(".")[2] not in SUFFIXES}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_names_exist(page):
    for text in dotted(page):
        assert exists(text), text


def test_the_architecture_walks_through_the_code():
    names = dotted(ROOT / "docs" / "architecture.md")
    assert len(names) > 30
    assert {text.partition(".")[0] for text in names} >= {"gateway", "chassis", "users", "orders", "payments"}


@pytest.mark.parametrize(
    "wrong",
    [
        "gateway.proxy.Proxy.refuse",
        "gateway.proxies",
        "users.services.create",
        "chassis.events.transaction",
        "nowhere.x",
    ],
)
def test_a_name_that_does_not_exist_is_found(wrong):
    assert not exists(wrong)
