"""What schemathesis does not know of the API; SCHEMATHESIS_HOOKS names this file.

A POST that repeats an Idempotency-Key gets the response of the first one, even if its user has been deleted since. Schemathesis repeats
whole scenarios, and would then expect that user.
"""

from typing import Any

import schemathesis
from schemathesis.generation.meta import TestPhase


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Send no Idempotency-Key in scenarios; the other phases do."""
    if case.meta is not None and case.meta.phase.name == TestPhase.STATEFUL and case.headers:
        case.headers.pop("Idempotency-Key", None)
