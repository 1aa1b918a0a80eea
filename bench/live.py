"""The whole system for measurements: both engines and every process of `make up`, with logs in files."""

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from embedded import cache, engines, ports
from embedded.engines import Engines
from embedded.forks import fork
from embedded.forks.child import Forked
from embedded.processes import Child, Steps, drive
from embedded.runner import JOB_WITHIN, READY_WITHIN, get
from embedded.system import JOBS, PROCESSES, ROOT, Job, Process, environment, urls

# As in production: every line is logged as JSON, and the check of keys is off.
EXTRA = {"LOG_FORMAT": "json", "OUTBOX_CHECK_KEYS": "off"}


class Live:
    """A running system; `children` are its processes by name, `folder` has their logs."""

    def __init__(self, engines: Engines, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        """The engines must be running; `folder` is for the logs, `variables` are added to the environment of every process."""
        self.engines = engines
        self.children: dict[str, Child] = {}
        self.folder = folder
        self._variables = {**EXTRA, **(variables or {})}
        numbers = ports.free(len(PROCESSES))
        self.ports = {process.name: port for process, port in zip(PROCESSES, numbers, strict=True)}
        self.addresses = {**urls(self.ports), **engines.environment()}
        self._secret = secrets.token_urlsafe(48)

    def start(self) -> None:
        """Migrate, create the topics, start everything, and return when everything is ready. Raises NotReady."""
        drive(*(self._run(job) for job in JOBS))
        drive(*(self._ready(process) for process in PROCESSES))

    def stop(self) -> None:
        """Stop the processes gracefully."""
        for child in self.children.values():
            child.popen.terminate()
        for child in self.children.values():
            child.stop()

    @contextmanager
    def idle_runner(self) -> Iterator[Child]:
        """A process with the modules that `make up` itself imports, for measuring its memory."""
        code = "import embedded.up, signal; print('loaded', flush=True); signal.pause()"
        log = self.folder / "up.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
        child = Child([sys.executable, "-c", code], name="up", log=log, cwd=ROOT, env=environment)
        drive(child.until(lambda: "loaded" in log.read_text(), within=READY_WITHIN))
        try:
            yield child
        finally:
            child.stop()

    def child(
        self, name: str, argv: list[str], service: str, variables: dict[str, str], *, alone: bool = False
    ) -> Child:
        """Start a Python program as `make up` does, in the environment of a service with these further variables."""
        own = environment(service, addresses=self.addresses, secret_key=self._secret)
        kind = Forked if fork.AVAILABLE and not alone else Child
        log = self.folder / f"{name}.log"
        return kind(argv, name=name, log=log, cwd=ROOT, env={**own, **self._variables, **variables})

    def _run(self, job: Job) -> Steps:
        yield from self.child(job.name, job.argv(sys.executable), job.service, {}).until_done(within=JOB_WITHIN)

    def _ready(self, process: Process) -> Steps:
        port = self.ports[process.name]
        child = self.child(process.name, process.argv(sys.executable, port), process.service, process.variables(port))
        self.children[process.name] = child
        yield from child.until(lambda: get(port, "/health/ready")[0] == 200, within=READY_WITHIN)


@contextmanager
def running(variables: Mapping[str, str] | None = None) -> Iterator[Live]:
    """Run the system within the block, on free ports with temporary data. See Live for `variables`."""
    with cache.temporary_folder("bench") as folder, engines.temporary("bench-engines") as both:
        live = Live(both, folder, variables)
        try:
            live.start()
            yield live
        finally:
            live.stop()
