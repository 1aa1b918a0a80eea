"""docs/settings.md matches the code."""

import ast
import re

import pytest

from settings import table
from settings.environment.base import SECRETS_DIR
from tests.settings.services import ROOT, SERVICE_NAMES

SOURCES = ("settings", "platform/chassis", *SERVICE_NAMES)

# Read or set by our code, but nobody's setting.
NOT_SETTINGS = {
    "OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "WEB_CONTROL_SOCKET",
}  # fmt: skip


def test_the_page_matches_the_code():
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run: python -m settings.table --write"


def test_every_variable_is_documented():
    for environment in table.ENVIRONMENTS.values():
        for name, field in environment.model_fields.items():
            assert field.description, name
            assert f"| `{name.upper()}` |" in table.page()


def test_it_contains_no_secret():
    assert "development-only" not in table.page()
    assert SECRETS_DIR in table.page()


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_else_is_read_from_the_environment(source):
    """A variable that code reads by itself, past settings/environment/, is at least on the page."""
    fields = {name.upper() for environment in table.ENVIRONMENTS.values() for name in environment.model_fields}
    listed = {row[0] for row in table.OTHERS} | fields | NOT_SETTINGS
    for path in sorted((ROOT / source).rglob("*.py")):
        for name in _names_read(path.read_text(encoding="utf-8")):
            assert name in listed, f"{path.relative_to(ROOT)} reads {name}"


def _names_read(source: str) -> set[str]:
    """Names of variables in calls and subscripts of `os.environ`, and names beside `in os.environ`."""
    return {
        part.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call | ast.Subscript | ast.Compare) and "os.environ" in ast.unparse(node)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and re.fullmatch("[A-Z_]{3,}", part.value)
    }
