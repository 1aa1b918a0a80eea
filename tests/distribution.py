"""In which order the files run, and which worker of xdist runs which of them.

Some files are limited by the processor, such as those that start whole systems; others mostly wait, for time-outs and for
Kafka's groups. The former are at the front of the queue and the latter at its end. Half of the workers take files from the
front and the others from the end, so that both kinds run at the same time: the processor has work while tests wait, and only
half of the workers start the system of the acceptance tests.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

OWN_SYSTEMS = tuple(
    f"acceptance/test_{name}.py"
    for name in ("monitor", "dependencies", "pgbouncer", "default_broker", "cluster", "recreated", "prefix", "traces")
)
"""The acceptance tests that start systems of their own, longest first. The others share one system in each worker."""

HOSTS = 2
"""How many workers start the system that acceptance tests share."""

FIRST = (
    "acceptance/test_monitor.py",
    "docs/test_tutorial.py",
    "scaffold/test_service.py",
    "browser/console/test_map.py",
    "plans/",
    *OWN_SYSTEMS[1:],
    "chaos/",
    "embedded/",
    "browser/",
)
"""The files that need the processor most, longest first, so that no worker is left with one of them at the end.

Those that share the system of the acceptance tests come before them.
"""

LAST = ("chassis/kafka/", "chassis/deadletters/", "orders/", "chassis/consumer/", "chassis/outbox/", "chassis/staff/")
"""The files that wait most, longest last."""


def place(path: str) -> int:
    """The place in the queue of a file, whose path is relative to `tests/`."""
    if shares_the_system(path):
        return -len(FIRST) - 1
    for number, prefix in enumerate(FIRST):
        if path.startswith(prefix):
            return number - len(FIRST)
    return next((number for number, prefix in enumerate(LAST, start=1) if path.startswith(prefix)), 0)


def shares_the_system(path: str) -> bool:
    """Whether a file uses the system that acceptance tests share. Its path may begin with `tests/`."""
    path = path.removeprefix("tests/")
    return path.startswith("acceptance/") and not path.startswith(OWN_SYSTEMS)


def takes_from_the_end(worker: str) -> bool:
    """Whether this worker, such as "gw1", begins with the files that wait."""
    return int(worker.removeprefix("gw")) % 2 == 1


class FromBothEnds(LoadFileScheduling):
    """Distributes whole files, like `loadfile`: half of the workers take them from the front of the queue, the others from its end.

    The files that share a system go to few workers, since each of those starts it.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        if (file := self._next_for(node)) is not None:
            self.workqueue.move_to_end(file, last=False)
            super()._assign_work_unit(node)

    def _next_for(self, node: WorkerController) -> str | None:
        """The next file for this worker, or None if none is left for it."""
        from_the_end = takes_from_the_end(node.gateway.id)
        queue = reversed(self.workqueue) if from_the_end else iter(self.workqueue)
        if self._may_host(node, from_the_end):
            return next(queue, None)
        return next((file for file in queue if not shares_the_system(file)), None)

    def _may_host(self, node: WorkerController, from_the_end: bool) -> bool:
        hosts = [
            one
            for one, files in self.assigned_work.items()
            if not one.shutting_down and any(map(shares_the_system, files))
        ]
        return node in hosts or not hosts or (len(hosts) < HOSTS and not from_the_end)

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker more files, unless it has enough; without more, it ends after those that it has.

        A worker runs a test only after it has the next one, or knows that there is none.
        """
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) <= 2:
            if self._next_for(node) is None:
                node.shutdown()
            else:
                self._assign_work_unit(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Distribute what a worker that ended has left, and return the test that it was running, which is not run again.

        xdist would run it again, on one new worker after the other: a test that hangs would end them all.
        """
        units = self.assigned_work[node].values()
        running = next((test for unit in units for test, completed in unit.items() if not completed), None)
        for unit in units:
            if running in unit:
                unit[running] = True
        super().remove_node(node)
        return running


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files in the order of the queue."""
    tests = config.rootpath / "tests"
    items.sort(key=lambda item: place(item.path.relative_to(tests).as_posix()))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FromBothEnds | None:
    """The scheduler for `--dist loadfile`."""
    return FromBothEnds(config, log) if config.option.dist == "loadfile" else None
