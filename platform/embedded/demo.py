"""`make demo`: starts a system on free ports with temporary data, plays the story once, and leaves nothing behind.

`make demo ARGS=--open` leaves it running until Ctrl-C, with the console.
"""

import asyncio
import secrets
import time
from contextlib import ExitStack, closing

from embedded import cache, control, engines, ports
from embedded.console import Console
from embedded.display import BOLD, DIM, GREEN, paint, say
from embedded.keeping import keep_running
from embedded.local_system import LocalSystem
from embedded.log_files import LogFiles
from embedded.observer import Observer
from embedded.story import Step, Story
from embedded.system import PROCESSES

OPEN = "--open"


async def run(*options: str) -> int | None:
    """Play the story and show it; with `--open` leave everything running, with the console, until cancelled.

    Raises EmbeddedError, stating what failed, if anything is not as promised.
    """
    started = time.monotonic()

    def report(what: str) -> None:
        say(f"  {time.monotonic() - started:5.1f} s   {what}")

    say(paint("Starting the system with temporary data", BOLD))
    with cache.temporary_folder("demo") as folder, ExitStack() as stack:
        numbers = dict(zip((process.name for process in PROCESSES), ports.free(len(PROCESSES)), strict=True))
        engines_here = engines.choose(folder)
        secret_key = secrets.token_urlsafe(48)
        if OPEN in options:
            files = stack.enter_context(closing(LogFiles(folder / "log")))
            tokens = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
            console = Console(ports.free(1)[0], *tokens, folder / "log", control.path_in(folder))
            local = LocalSystem(
                engines_here, numbers, secret_key=secret_key, report=report, show=files.write, console=console
            )
        else:
            local = LocalSystem(engines_here, numbers, secret_key=secret_key, report=report)
        try:
            await local.start()
            with Observer(local.engines.kafka.bootstrap_servers) as observer:
                story = Story(local.addresses["GATEWAY_URL"], observer, _show)
                await local.while_all_live(_play(story))
            report("the story is complete")
            if local.console:
                return await _leave_open(local, story)
        finally:
            local.abandon()
    say()
    say(paint("All as promised.", BOLD, GREEN))
    return None


async def _leave_open(local: LocalSystem, story: Story) -> int:
    """Keep everything running, to be looked at, until cancelled."""
    assert local.console is not None
    say()
    say(paint("All as promised.", BOLD, GREEN))
    say()
    say(f"  {paint('Console', BOLD)}     {local.console.url}")
    say(f"  {paint('this story', BOLD)}  {local.console.url_of(f'/stories/{story.trace_id}')}")
    say(f"  {paint('gateway', BOLD)}     {local.addresses['GATEWAY_URL']}")
    say("\n  Ctrl-C stops everything and deletes the data.\n")
    try:
        async with control.offered(local):
            await keep_running(local)
    except asyncio.CancelledError:
        say(paint("\nStopped; nothing is left.", BOLD))
    return 0


async def _play(story: Story) -> None:
    say()
    say(paint("A new user, followed through the system", BOLD))
    await story.play()
    say()
    say("  All steps belong to one request and one trace:")
    say(f"    request id  {story.request_id}")
    say(f"    trace id    {story.trace_id}")
    say(f"    user        {story.user['id']}")
    say(f"    order       {story.order['id']}: {story.order['status']}, read back through the gateway")
    say()
    say(paint("The same event a second time", BOLD))
    for line in await story.deliver_duplicate():
        say(f"  {line}")
    say()


def _show(step: Step) -> None:
    say(f"  {step.since * 1000:6.0f} ms  {paint(f'{step.service:<9}', BOLD)} {step.what}")
    say(paint(f"{'':11}request {step.request_id}  trace {step.trace_id}", DIM))
