"""One run from beginning to end: start, load under faults, heal, settle, account."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chaos import evidence, load, schedule, settling, system
from chaos.accounting import account
from chaos.faults import Saboteur
from chaos.load import Load
from chaos.plan import Plan
from chaos.poison import Poisoner
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
    """The whole system, ready, with witnesses in place; ended at once at the end of the block."""
    with cache.temporary_folder("chaos") as folder, Links() as links:
        chosen = system.choose(folder, links, replicas=replicas)
        try:
            await chosen.start()
            await asyncio.to_thread(evidence.place_witnesses, chosen.engines)
            alive = asyncio.create_task(chosen.keep_alive())
            try:
                yield chosen
            finally:
                alive.cancel()
                await asyncio.gather(alive, return_exceptions=True)
        finally:
            chosen.abandon()


async def run(plan: Plan) -> bool:
    """A whole run; says what happens, and prints the table. Returns whether all was as promised."""
    faults = schedule.make(plan.seed, plan.duration)
    say(f"chaos {plan}: {len(faults)} faults; the same seed and duration make the same schedule")
    async with running() as chosen:
        say(f"the system runs: {len(chosen.members)} processes, two PostgreSQL, one Kafka, {len(chosen.links)} links")
        fine = False
        try:
            outcome = await _storm(plan, chosen, faults)
            say("\n" + "\n".join(lines(outcome)))
            fine = outcome.as_promised and not outcome.bugs
        finally:
            if not fine:
                say(f"the logs are kept in {_keep(chosen.folder, plan)}")
    return outcome.as_promised


async def _storm(plan: Plan, chosen: System, faults: list[schedule.Fault]) -> Outcome:
    servers = chosen.engines.kafka.bootstrap_servers
    posts = load.plan(plan.seed, users=plan.users, orders=plan.orders, duration=plan.duration, gateways=chosen.gateways)
    saboteur, poisoner = Saboteur(chosen), Poisoner(servers)
    sequences = Sequences(chosen.engines.address("users"))
    began = time.monotonic()
    progress = asyncio.create_task(_progress(posts, saboteur))
    async with asyncio.TaskGroup() as group:
        group.create_task(posts.run())
        group.create_task(saboteur.run(faults))
        group.create_task(poisoner.run(plan.seed, plan.duration))
        group.create_task(sequences.run(plan.duration))
    progress.cancel()
    spent = time.monotonic() - began
    say(f"all is sent and all is healed after {spent:.0f} s; waiting until nothing is left to do")
    with contextlib.closing(Reader(servers)) as reader:
        settled = await settling.settle(chosen.engines, reader)
        found = await asyncio.to_thread(
            evidence.collect,
            chosen.engines,
            reader,
            answers=posts.answers,
            poison=poisoner.sent,
            sequences=sequences.written,
        )
    return Outcome(plan, saboteur.done, found, account(found), spent, settled, chosen.deaths, saboteur.ignored_sigterm)


async def _progress(posts: Load, saboteur: Saboteur) -> None:
    while True:
        await asyncio.sleep(10)
        taken = sum(answer.status == 201 for answer in posts.answers)
        say(
            f"  {len(posts.answers)} of {len(posts.wishes)} POSTs answered, {taken} with 201; {len(saboteur.done)} faults"
        )


def _keep(folder: Path, plan: Plan) -> Path:
    kept = ROOT / "var" / f"chaos-{plan.seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    return kept
