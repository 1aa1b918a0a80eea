"""A dependency as a loop sees it: up, or down and tried again with backoff; said once a change, not once a try."""

import time

import structlog

from chassis.runtime.retries import RECONNECT

log = structlog.get_logger(__name__)


class Dependency:
    """The database or the broker. A loop asks `may_try`, and reports `answered` or `failed`.

    `part` is what `/health/ready` says is down meanwhile, where that is not its name.
    """

    def __init__(self, name: str, part: str = "") -> None:
        self.name = name
        self.part = part or name
        self.why = ""
        """What a person has to know about it while it is down; without an address, as `/health/ready` shows it."""
        self.next_try = 0.0
        self.confirmed_down = False
        """Whether it did not answer when it was asked itself; else it is down only as far as one can tell from events."""
        self._failures = 0
        self._since = 0.0

    @property
    def up(self) -> bool:
        """Whether the last try succeeded, or none was made yet."""
        return self._failures == 0

    def may_try(self, now: float) -> bool:
        """Whether it is time for a try; `now` is `time.monotonic()`."""
        return self.up or now >= self.next_try

    def down_for(self, now: float) -> float:
        """How long it is down, in seconds."""
        return 0.0 if self.up else now - self._since

    def failed(self, error: BaseException) -> None:
        """It did not answer; the next try is in at most two seconds."""
        now = time.monotonic()
        if self.up:
            self._since = now
            log.warning(f"waiting for the {self.name}", error=type(error).__name__, reason=_first_line(error))
        self._failures += 1
        self.next_try = now + (RECONNECT.delay(self._failures) or 0.0)

    def forget(self) -> None:
        """Nobody needs anything of it any more, so nobody will find out that it is back."""
        if not self.up:
            log.info(f"no longer waiting for the {self.name}")
        self._failures = 0
        self.confirmed_down = False

    def answered(self) -> None:
        """It answered."""
        if not self.up:
            log.info(f"the {self.name} is back", seconds=round(time.monotonic() - self._since, 1), tries=self._failures)
        self._failures = 0
        self.confirmed_down = False


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
