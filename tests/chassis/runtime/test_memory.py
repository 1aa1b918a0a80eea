"""What has been freed goes back to the system."""

import os
import platform
import sys

import pytest

from tests.forks.completed import completed
from tests.settings.services import ROOT

PROGRAM = """
import os
from pathlib import Path
from chassis.runtime import memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
blocks = [os.urandom(2_000) for _ in range(60_000)]
kept = blocks[::50]
del blocks
before = resident()
memory.trim()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_memory_between_what_is_kept_is_returned():
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "platform")}
    status, out, errors = completed([sys.executable, "-c", PROGRAM], cwd=ROOT, env=variables)
    assert status == 0, errors
    assert int(out) > 50, "MiB"
