"""A child that a fork server starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from embedded.forks.fork import Fork
from embedded.processes import Child


class Forked(Child):
    """A `Child` that is a fork of a process which has loaded the libraries: it starts in half the time.

    Standard error is written to `error_log`, by default also to the log. See Fork for `argv`.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        name: str,
        cwd: Path,
        env: Mapping[str, str],
        error_log: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        errors = str(error_log) if error_log else None
        self.popen = Fork(  # type: ignore[assignment]
            list(map(str, argv)), cwd=str(cwd), env=env, out=str(log), err=errors
        )
