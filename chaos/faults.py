"""Injects the scheduled faults into the running system, and repairs them."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from chaos.proxy import Link
from chaos.schedule import Fault
from chaos.system import Member, System
from embedded.kafka import Kafka
from embedded.postgres import PostgreSQL
from embedded.processes import DONE, Steps, drive


@dataclass
class FaultInjector:
    """Injects faults. `done` lists the injected faults, `ignored_sigterm` the processes that had to be killed."""

    system: System
    done: list[Fault] = field(default_factory=list)
    ignored_sigterm: list[str] = field(default_factory=list)
    _busy: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def run(self, schedule: Iterable[Fault]) -> None:
        """Inject each fault at its time, and return when the last one is repaired."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for fault in schedule:
                group.create_task(self._at(began + fault.at - loop.time(), fault))

    async def _at(self, seconds: float, fault: Fault) -> None:
        await asyncio.sleep(seconds)
        # On a slow machine the previous fault of this target may not be repaired yet.
        async with self._busy[fault.target]:
            self.done.append(fault)
            await self.inject(fault)

    async def inject(self, fault: Fault) -> None:
        """Inject a fault, and repair it."""
        if fault.target in self.system.members:
            await self._to_process(fault, self.system.members[fault.target])
        elif fault.target in self.system.links:
            await to_link(fault, self.system.links[fault.target])
        else:
            await to_engine(fault, self.system.engines.named()[fault.target])

    async def _to_process(self, fault: Fault, member: Member) -> None:
        child = member.child
        assert child is not None
        if fault.kind == "freeze":
            await asyncio.to_thread(child.pause)
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(child.resume)
            return
        member.held = True
        if fault.kind == "kill -9":
            await asyncio.to_thread(child.kill9)
        elif not await self.system.stop_member(member):
            self.ignored_sigterm.append(f"{member.name} at {fault.at:.1f} s")
        await asyncio.sleep(fault.seconds)
        member.spawn()
        member.held = False


async def to_link(fault: Fault, link: Link) -> None:
    """Inject a fault into a link."""
    getattr(link, fault.kind)()
    await asyncio.sleep(fault.seconds)
    link.heal()


async def to_engine(fault: Fault, engine: PostgreSQL | Kafka) -> None:
    """Inject a fault into an engine. A stopped engine is running again when this returns."""
    if fault.kind == "freeze":
        await asyncio.to_thread(engine.pause)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(engine.resume)
        return
    await asyncio.to_thread(engine.kill9 if fault.kind == "kill -9" else engine.stop)
    await asyncio.sleep(fault.seconds)
    await restart(engine.starting())


async def restart(steps: Steps) -> None:
    """Run the first step, which forks, in the main thread, since the child dies with its thread; wait in another one."""
    if next(steps, DONE) is not DONE:
        await asyncio.to_thread(drive, steps)
