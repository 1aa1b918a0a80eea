"""Hiding what libraries import."""

import sys

import pytest

from chassis.imports import without_init
from tests.chassis.observability.processes import python


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with an `__init__` that cannot run."""
    folder = tmp_path / "heavy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('it ran')")
    (folder / "part.py").write_text("VALUE = 7")
    monkeypatch.syspath_prepend(tmp_path)
    yield "heavy_package"
    for name in ("heavy_package", "heavy_package.part"):
        sys.modules.pop(name, None)


class TestWithoutInit:
    def test_modules_are_imported_without_it(self, package):
        without_init(package)
        from heavy_package.part import VALUE

        assert VALUE == 7

    def test_a_loaded_package_remains(self):
        before = sys.modules["json"]
        without_init("json")
        assert sys.modules["json"] is before

    def test_a_missing_package_is_named(self):
        with pytest.raises(ModuleNotFoundError, match="no_such_package"):
            without_init("no_such_package")


def test_health_checks_load_no_dns_and_no_mail_client():
    code = """
import sys
import settings
from chassis.health import check
loaded = [name for name in sys.modules if name.startswith(("dns.", "smtplib", "health_check.checks"))]
assert loaded == [], loaded
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
