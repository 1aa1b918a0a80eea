"""The gateway's merged document is correct: schemathesis finds nothing, with all checks, through the gateway."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.system import ROOT

pytestmark = pytest.mark.acceptance

PROGRAM = Path(sys.executable).with_name("schemathesis")
HOOKS = ROOT / "tests" / "schemathesis_hooks.py"


def test_schemathesis_finds_nothing(system, tmp_path):
    document = system.client.get("/api/schema").json()
    assert set(document["paths"]) == {"/api/users", "/api/users/{id}", "/api/orders", "/api/orders/{id}"}
    assert "x-missing-services" not in document

    before = {name: len(system[name].logged()) for name in ("gateway", "users", "orders")}
    found = subprocess.run(
        [PROGRAM, "--config-file", ROOT / "schemathesis.toml", "run", f"{system.gateway_url}/api/schema", "--checks", "all",
         "-n", "15", "--continue-on-failure", "--generation-database", "none",
         # As in tests/chassis/http/test_schema.py: the same luck each time.
         "--seed", "1",
         # How long it takes to generate data depends on what else the machine does.
         "--suppress-health-check", "too_slow"],
        cwd=tmp_path, env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip

    assert found.returncode == 0, found.stdout + found.stderr
    assert "No issues found" in found.stdout
    errors = [
        line for name, lines in before.items() for line in system[name].logged()[lines:] if line.get("status", 0) >= 500
    ]
    assert errors == []
