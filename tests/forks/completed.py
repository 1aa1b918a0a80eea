"""Programs that end, as forks."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedded.forks.child import Forked


def completed(
    argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], within: float = 120
) -> tuple[int, str, str]:
    """Run a program as a fork to its end. Returns its exit status, output and errors. Raises TimeoutExpired after `within` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        child = Forked(argv, log=out, error_log=err, name=str(argv[-1]), cwd=cwd, env=env)
        try:
            status = child.popen.wait(within)
        finally:
            child.kill9()
        return status, out.read_text(), err.read_text()
