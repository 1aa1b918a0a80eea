"""`make observe`: the monitor and Prometheus for the system that `make up` runs in another terminal, until Ctrl-C."""

import asyncio
import json
import os
import shutil
import sys

from embedded import ports
from embedded.display import BOLD, paint, say
from embedded.errors import EmbeddedError
from embedded.processes import Child, drive_async
from embedded.runner import READY_WITHIN, all_or_first_failure, get
from embedded.system import MONITOR, ROOT, environment
from embedded.targets import TARGETS, group
from embedded.up import VAR, port_of, read_dev_env

FOLDER = VAR / "prometheus"
RULES = ROOT / "docker" / "prometheus" / "rules" / "*.yml"
PROMETHEUS_PORT = 9090
SCRAPE_SECONDS = 5
KEPT = "7d"

NOT_INSTALLED = """`prometheus` is not installed, or not on PATH:
  Debian, Ubuntu   apt-get install --no-install-recommends prometheus   (it may start one of its own on port 9090)
  macOS            brew install prometheus
  elsewhere        https://prometheus.io/download/"""


async def run() -> int:
    """Run until cancelled. Raises EmbeddedError if Prometheus is not installed, `make up` does not run, or a port is taken."""
    program = shutil.which("prometheus")
    if program is None:
        raise EmbeddedError(NOT_INSTALLED)
    addresses = read_dev_env()
    monitor_port = port_of(MONITOR.port_variable, MONITOR.default_port)
    prometheus_port = port_of("PROMETHEUS_PORT", PROMETHEUS_PORT)
    ports.require_free(
        {
            "the monitor": (MONITOR.port_variable, monitor_port),
            "Prometheus": ("PROMETHEUS_PORT", prometheus_port),
        },
        command="make observe",
    )
    FOLDER.mkdir(exist_ok=True)
    children: list[Child] = []
    try:
        children.append(_monitor(addresses, monitor_port))
        children.append(_prometheus(program, monitor_port, prometheus_port))
        await all_or_first_failure(
            drive_async(children[0].until(lambda: get(monitor_port, "/health/ready")[0] == 200, within=READY_WITHIN)),
            drive_async(children[1].until(lambda: get(prometheus_port, "/-/ready")[0] == 200, within=READY_WITHIN)),
        )
        _print_addresses(monitor_port, prometheus_port)
        while True:
            for child in children:
                child.check()
            await asyncio.sleep(0.3)
    except asyncio.CancelledError:
        say(paint("\nStopping", BOLD))
    finally:
        _stop(children)
    say(paint("Stopped. The measurements are kept in var/prometheus/ for the next `make observe`.", BOLD))
    return 0


def _monitor(addresses: dict[str, str], port: int) -> Child:
    variables = environment(
        MONITOR.service, addresses=addresses, secret_key=addresses["SECRET_KEY"], inherit_all=True
    ) | MONITOR.variables(port)
    return Child(
        MONITOR.argv(sys.executable, port), log=FOLDER / "monitor.log", name="the monitor", cwd=ROOT, env=variables
    )


def _prometheus(program: str, monitor_port: int, port: int) -> Child:
    configuration = FOLDER / "prometheus.yml"
    configuration.write_text(_configuration(monitor_port))
    argv = [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={FOLDER / 'data'}",
        f"--storage.tsdb.retention.time={KEPT}",
        f"--web.listen-address={ports.HOST}:{port}",
    ]
    return Child(argv, log=FOLDER / "prometheus.log", name="Prometheus", cwd=FOLDER, env=dict(os.environ))


def _configuration(monitor_port: int) -> str:
    """Its configuration, in JSON, which is YAML: paths may contain any character."""
    return json.dumps(
        {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {
                    "job_name": "services",
                    "file_sd_configs": [{"files": [str(TARGETS)], "refresh_interval": f"{SCRAPE_SECONDS}s"}],
                    "static_configs": [group(MONITOR, monitor_port)],
                }
            ],
        },
        indent=2,
    )


def _print_addresses(monitor_port: int, prometheus_port: int) -> None:
    rows = [
        # Where alerts and targets are depends on its version and on who built it; the first page leads to them.
        ("Prometheus", f"http://{ports.HOST}:{prometheus_port}/"),
        ("Metrics of the monitor", f"http://{ports.HOST}:{monitor_port}/metrics"),
        ("Logs", str((FOLDER / "*.log").relative_to(ROOT))),
    ]
    say()
    for what, where in rows:
        say(f"  {paint(f'{what:<27}', BOLD)} {where}")
    say("\n  Ctrl-C stops both.\n")


def _stop(children: list[Child]) -> None:
    """Stop both at the same time: Prometheus takes a while to write what it has measured."""
    for child in children:
        if child.alive:
            child.popen.terminate()
    for child in children:
        child.stop()
