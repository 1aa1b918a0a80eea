"""Keeps a started system running: processes and engines that exit are restarted."""

import asyncio
from collections.abc import Callable

from embedded.errors import NotReady
from embedded.kafka import Kafka
from embedded.local_system import LocalSystem
from embedded.postgres import PostgreSQL
from embedded.processes import drive_async
from embedded.runner import BACKOFF_INITIAL, BACKOFF_MAX, Show, all_or_first_failure


async def keep_running(local: LocalSystem) -> None:
    """Restart processes and engines that exit, until cancelled."""
    postgres, kafka, show = local.engines.postgres, local.engines.kafka, local.show
    await all_or_first_failure(
        _keep_engine(postgres, lambda: postgres.child.alive, "postgres", show),
        _keep_engine(kafka, lambda: all(node.child.alive for node in kafka.members), "kafka", show),
        *(local.runner.keep_alive(running) for running in local.runner.running.values()),
    )


async def _keep_engine(engine: PostgreSQL | Kafka, is_alive: Callable[[], bool], name: str, show: Show) -> None:
    pause = BACKOFF_INITIAL
    while True:
        await asyncio.sleep(0.3)
        if is_alive():
            continue
        show(name, f"{name} exited; restarting in {pause:g} s")
        await asyncio.sleep(pause)
        try:
            await drive_async(engine.starting())
            pause = BACKOFF_INITIAL
        except NotReady as error:
            show(name, str(error))
            pause = min(pause * 2, BACKOFF_MAX)
