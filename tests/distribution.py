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

# The acceptance tests that run systems of their own come before the others, so that the system of the others does not run idle
# meanwhile.
OWN_SYSTEMS = ("monitor", "cluster", "default_broker", "dependencies", "prefix", "pgbouncer", "recreated", "traces")
FIRST = (
    "scaffold/test_service.py",
    "docs/test_tutorial.py",
    "browser/console/test_map.py",
    "plans/",
    *(f"acceptance/test_{name}.py" for name in OWN_SYSTEMS),
    "chaos/",
    "embedded/",
    "browser/",
    "acceptance/",
)
"""The files that need the processor most, longest first, so that no worker is left with one of them at the end.

The acceptance tests are the last of them, because their system runs until the end of the session.
"""

LAST = ("chassis/kafka/", "chassis/deadletters/", "orders/", "chassis/consumer/", "chassis/outbox/", "chassis/staff/")
"""The files that wait most, longest last."""


def place(path: str) -> int:
    """The place in the queue of a file, whose path is relative to `tests/`."""
    for number, prefix in enumerate(FIRST):
        if path.startswith(prefix):
            return number - len(FIRST)
    return next((number for number, prefix in enumerate(LAST, start=1) if path.startswith(prefix)), 0)


def takes_from_the_end(worker: str) -> bool:
    """Whether this worker, such as "gw1", begins with the files that wait."""
    return int(worker.removeprefix("gw")) % 2 == 1


class FromBothEnds(LoadFileScheduling):
    """Distributes whole files, like `loadfile`: half of the workers take them from the front of the queue, the others from its end."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        if takes_from_the_end(node.gateway.id):
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker more files, unless it has enough.

        A worker runs a test only after it has the next one. One that replaces another may have got a file of one test.
        """
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
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
