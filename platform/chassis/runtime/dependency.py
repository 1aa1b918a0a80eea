"""The state of a dependency: up, or down and retried with backoff. Changes are logged, attempts are not."""

import time

import structlog

from chassis.observability import metrics
from chassis.runtime.retries import RECONNECT

log = structlog.get_logger(__name__)


class Dependency:
    """The database or the broker. A loop checks `may_try`, and then calls `answered` or `failed`.

    `part` is the name of the check in `/health/ready`, by default `name`; `label` its name in metrics, likewise.
    """

    def __init__(self, name: str, part: str = "", label: str = "") -> None:
        self.name = name
        self.part = part or name
        self._gauge = metrics.DEPENDENCY_UP.labels(label or name)
        self._gauge.set(1)
        self.why = ""
        """A hint for the operator while it is down. `/health/ready` shows it, so it must not contain an address."""
        self.next_try = 0.0
        self.confirmed_down = False
        """Whether a probe failed; otherwise it is only assumed to be down, because events failed."""
        self._failures = 0
        self._since = 0.0

    @property
    def up(self) -> bool:
        """Whether the last attempt succeeded, or there has been none."""
        return self._failures == 0

    def may_try(self, now: float) -> bool:
        """Whether the next attempt is due; `now` is `time.monotonic()`."""
        return self.up or now >= self.next_try

    def down_for(self, now: float) -> float:
        """How long it has been down, in seconds."""
        return 0.0 if self.up else now - self._since

    def failed(self, error: BaseException) -> None:
        """Note that it did not respond; the next attempt is in at most two seconds."""
        now = time.monotonic()
        if self.up:
            self._since = now
            log.warning(f"waiting for the {self.name}", error=type(error).__name__, reason=_first_line(error))
        self._failures += 1
        self._gauge.set(0)
        self.next_try = now + (RECONNECT.delay(self._failures) or 0.0)

    def forget(self) -> None:
        """Stop waiting for it, since nothing needs it any more."""
        if not self.up:
            log.info(f"no longer waiting for the {self.name}")
        self._recovered()

    def answered(self) -> None:
        """Note that it responded."""
        if not self.up:
            log.info(f"the {self.name} is back", seconds=round(time.monotonic() - self._since, 1), tries=self._failures)
        self._recovered()

    def _recovered(self) -> None:
        if not self.up:
            self._gauge.set(1)
        self._failures = 0
        self.confirmed_down = False


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
