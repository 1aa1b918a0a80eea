"""`make demo`: starts a system on free ports with temporary data, plays the story once, and leaves nothing behind."""

import secrets
import time

from embedded import cache, engines, ports
from embedded.display import BOLD, DIM, GREEN, paint, say
from embedded.local_system import LocalSystem
from embedded.observer import Observer
from embedded.story import Step, Story
from embedded.system import PROCESSES


async def run() -> None:
    """Play the story and show it. Raises EmbeddedError, stating what failed, if anything is not as promised."""
    started = time.monotonic()

    def report(what: str) -> None:
        say(f"  {time.monotonic() - started:5.1f} s   {what}")

    say(paint("Starting the system with temporary data", BOLD))
    with cache.temporary_folder("demo") as folder:
        numbers = dict(zip((process.name for process in PROCESSES), ports.free(len(PROCESSES)), strict=True))
        local = LocalSystem(engines.choose(folder), numbers, secret_key=secrets.token_urlsafe(48), report=report)
        try:
            await local.start()
            with Observer(local.engines.kafka.bootstrap_servers) as observer:
                story = Story(local.addresses["GATEWAY_URL"], observer, _show)
                await local.while_all_live(_play(story))
            report("the story is complete")
        finally:
            local.abandon()
    say()
    say(paint("All as promised.", BOLD, GREEN))


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
