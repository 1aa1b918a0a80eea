"""A complete run: start, load under faults, repair, settle, account."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chaos import evidence, load, schedule, settling, system
from chaos.accounting import account
from chaos.faults import FaultInjector
from chaos.load import Load
from chaos.plan import Plan
from chaos.poison import PoisonProducer
from chaos.proxy import Links
from chaos.report import Outcome, lines
from chaos.sequences import Sequences
from chaos.system import REPLICAS, System
from chaos.topics import Reader
from embedded import cache
from embedded.display import say
from embedded.system import ROOT


@asynccontextmanager
async def running(*, replicas: int = REPLICAS) -> AsyncIterator[System]:
    """Run the whole system, with audit triggers, within the block; killed at the end."""
    with cache.temporary_folder("chaos") as folder, Links() as links:
        chosen = system.choose(folder, links, replicas=replicas)
        try:
            await chosen.start()
            await asyncio.to_thread(evidence.create_audit_triggers, chosen.engines)
            alive = asyncio.create_task(chosen.keep_alive())
            try:
                yield chosen
            finally:
                alive.cancel()
                await asyncio.gather(alive, return_exceptions=True)
        finally:
            chosen.abandon()


async def run(plan: Plan) -> bool:
    """Run, report progress, and print the report. Returns whether everything is as promised."""
    faults = schedule.make(plan.seed, plan.duration)
    say(f"chaos {plan}: {len(faults)} faults; the same seed and duration give the same schedule")
    async with running() as chosen:
        say(
            f"the system is running: {len(chosen.members)} processes, two PostgreSQL, one Kafka, {len(chosen.links)} links"
        )
        succeeded = False
        try:
            outcome = await _storm(plan, chosen, faults)
            say("\n" + "\n".join(lines(outcome)))
            succeeded = outcome.as_promised and not outcome.bugs
        finally:
            if not succeeded:
                say(f"the logs are kept in {_keep(chosen.folder, plan)}")
    return outcome.as_promised


async def _storm(plan: Plan, chosen: System, faults: list[schedule.Fault]) -> Outcome:
    servers = chosen.engines.kafka.bootstrap_servers
    posts = load.plan(plan.seed, users=plan.users, orders=plan.orders, duration=plan.duration, gateways=chosen.gateways)
    injector, poison = FaultInjector(chosen), PoisonProducer(servers)
    sequences = Sequences(chosen.engines.address("users"))
    began = time.monotonic()
    progress = asyncio.create_task(_progress(posts, injector))
    async with asyncio.TaskGroup() as group:
        group.create_task(posts.run())
        group.create_task(injector.run(faults))
        group.create_task(poison.run(plan.seed, plan.duration))
        group.create_task(sequences.run(plan.duration))
    progress.cancel()
    elapsed = time.monotonic() - began
    say(f"all requests sent and all faults repaired after {elapsed:.0f} s; waiting until the system has settled")
    with contextlib.closing(Reader(servers)) as reader:
        settled = await settling.settle(chosen.engines, reader)
        found = await asyncio.to_thread(
            evidence.collect,
            chosen.engines,
            reader,
            responses=posts.responses,
            poison=poison.sent,
            sequences=sequences.written,
        )
    return Outcome(
        plan, injector.done, found, account(found), elapsed, settled, chosen.deaths, injector.ignored_sigterm
    )


async def _progress(posts: Load, injector: FaultInjector) -> None:
    while True:
        await asyncio.sleep(10)
        accepted = sum(response.status == 201 for response in posts.responses)
        say(
            f"  {len(posts.responses)} of {len(posts.requests)} POSTs answered, {accepted} with 201; {len(injector.done)} faults"
        )


def _keep(folder: Path, plan: Plan) -> Path:
    kept = ROOT / "var" / f"chaos-{plan.seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    return kept
