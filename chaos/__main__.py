"""`python -m chaos`, which `make chaos` runs. Exits with 0 only if nothing is lost, duplicated, out of order or stuck."""

import asyncio
import signal
import sys

from chaos.plan import BadPlan, Plan

INTERRUPTED = 130


def main() -> int:
    """Run once."""
    try:
        plan = Plan.read()
    except BadPlan as error:
        print(error, file=sys.stderr)
        return 2
    try:
        return asyncio.run(_run_until_signalled(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED


async def _run_until_signalled(plan: Plan) -> int:
    from chaos.storm import run
    from embedded.display import print_error
    from embedded.engines import prepare
    from embedded.errors import EmbeddedError

    task = asyncio.current_task()
    assert task is not None
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
    try:
        prepare()
        return 0 if await run(plan) else 1
    except EmbeddedError as error:
        print_error(f"chaos failed: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
