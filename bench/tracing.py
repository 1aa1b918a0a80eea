"""The cost of traces: without an exporter, and with one at sampling rates of 0, 10 and 100 %.

    python -m bench.tracing [--seconds 3] [--rounds 5]

At the gateway, in front of an upstream that costs nothing, and at users, with its database. One process for each way of
sampling runs all the time; they are measured alternately. What is compared is the number of requests per second of CPU time,
the export included, since that is the throughput of a process on a core of its own, whatever else the machine does. The
collector accepts everything and looks at nothing. Requires `nginx` and `wrk`.
"""

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2

from bench import command, gateway, processes
from bench.live import EXTRA, Live
from bench.table import Row, each, ratio
from embedded import ports
from embedded.processes import Child, drive
from embedded.runner import READY_WITHIN, get
from embedded.system import ROOT, environment

UNSAMPLED, TENTH = 0.95, 0.90
OTLP = {"OTEL_TRACES_EXPORTER": "otlp"}
WAYS: dict[str, dict[str, str]] = {
    "off": {"OTEL_TRACES_EXPORTER": "none"},
    "unsampled": {**OTLP, "OTEL_TRACES_SAMPLER": "parentbased_always_off"},
    "10 %": {**OTLP, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
    "all": {**OTLP, "OTEL_TRACES_SAMPLER": "parentbased_always_on"},
}
COLLECTOR = "server {{ listen 127.0.0.1:{port}; client_max_body_size 64m; location /v1/traces {{ return 200; }} }}"
CONNECTIONS = 16
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Target:
    """A process, and the URL that is requested of it."""

    child: Child
    url: str


Rates = dict[str, list[float]]
"""The requests per second of CPU time of each round, by the way of sampling."""


def measure(live: Live, rounds: int = 5, seconds: int = 3) -> list[Row]:
    """Measure, and return two rows of the table for each place. Without nginx or wrk, one row names the missing programs."""
    missing = [program for program in ("nginx", "wrk") if shutil.which(program) is None]
    if missing:
        hint = f"not measured: `apt install {' '.join(missing)}`, missing on this machine"
        return [Row("traces", hint, "", None, f"≥ {UNSAMPLED}", None)]
    rows = []
    for what, started in (("proxied `GET` at the gateway", _gateways), ("`GET /users/{id}` at users", _users)):
        print(f"{what}, traces: {rounds} rounds of {len(WAYS)} ways", file=sys.stderr, flush=True)
        with started(live) as targets:
            rows += _rows(what, _alternately(targets, rounds, seconds))
    return rows


def _alternately(targets: dict[str, Target], rounds: int, seconds: int) -> Rates:
    rates: Rates = {way: [] for way in targets}
    for target in targets.values():
        _rate(target, 1)  # warm
    for number in range(rounds):
        # Each round in another order, since what runs first finds another machine than what runs last.
        ways = [*targets][number % len(targets) :] + [*targets][: number % len(targets)]
        for way in ways:
            rates[way].append(_rate(targets[way], seconds))
    return rates


def _rate(target: Target, seconds: int) -> float:
    """Requests per second of CPU time that the process and its children use."""
    family = target.child.family()
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"--timeout={PATIENCE_SECONDS}s", target.url]
    before = processes.seconds(family)
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = processes.seconds(family) - before
    requests = re.search(r"(\d+) requests in", output)
    assert requests is not None, output
    assert "Non-2xx" not in output, output
    return int(requests[1]) / used


def _rows(what: str, rates: Rates) -> list[Row]:
    ratios = {way: ratio(found, rates["off"]) for way, found in rates.items()}
    reference = f"without an exporter: {each(rates['off'])}"
    everything = f"{ratios['all']:.2f} if all requests are sampled: {each(rates['all'])} per second of CPU time"
    return [
        Row(
            f"{what}, traces {name}",
            f"{each(rates[way])} requests per second of CPU time",
            reference,
            ratios[way],
            f"≥ {goal:.2f}",
            ratios[way] >= goal,
            breakdown,
        )
        for name, way, goal, breakdown in (
            ("on, not sampled", "unsampled", UNSAMPLED, []),
            ("sampled at 10 %", "10 %", TENTH, [everything]),
        )
    ]


@contextlib.contextmanager
def _nginx(*http: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        configuration = folder / "nginx.conf"
        configuration.write_text(gateway.NGINX.format(folder=folder, name="nginx", http="\n".join(http)))
        stack.enter_context(gateway._process(["nginx", "-c", str(configuration)], folder / "nginx.out"))
        yield folder


@contextlib.contextmanager
def _gateways(live: Live) -> Iterator[dict[str, Target]]:
    upstream, collector = ports.free(2)
    servers = gateway.UPSTREAM.format(port=upstream, body=gateway.BODY), COLLECTOR.format(port=collector)
    addresses = {**live.addresses, "USERS_URL": f"http://127.0.0.1:{upstream}"}
    command = ["manage.py", "serve", "--host", "127.0.0.1", "--port"]
    with _nginx(*servers) as folder, _started(live, "gateway", command, addresses, folder, collector) as children:
        yield {way: Target(child, f"http://127.0.0.1:{port}/api/users/1") for way, (child, port) in children.items()}


@contextlib.contextmanager
def _users(live: Live) -> Iterator[dict[str, Target]]:
    [collector] = ports.free(1)
    user = httpx2.post(f"{live.addresses['USERS_URL']}/users", json={"email": "traces@example.org", "name": "Ada"})
    command = ["-m", "gunicorn", "users.wsgi:application", "--config", "settings/gunicorn.py", "--bind"]
    with (
        _nginx(COLLECTOR.format(port=collector)) as folder,
        _started(live, "users", command, live.addresses, folder, collector) as children,
    ):
        yield {
            way: Target(child, f"http://127.0.0.1:{port}/users/{user.json()['id']}")
            for way, (child, port) in children.items()
        }


@contextlib.contextmanager
def _started(
    live: Live, service: str, command: list[str], addresses: dict[str, str], folder: Path, collector: int
) -> Iterator[dict[str, tuple[Child, int]]]:
    """A process of the service for each way of sampling, and its port."""
    own = environment(service, addresses=addresses, secret_key="x" * 50) | EXTRA
    exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}
    with contextlib.ExitStack() as stack:
        children = {}
        for port, (way, variables) in zip(ports.free(len(WAYS)), WAYS.items(), strict=True):
            argv = [sys.executable, *command, str(port) if command[-1] == "--port" else f"127.0.0.1:{port}"]
            child = Child(argv, name=way, log=folder / f"{port}.log", cwd=ROOT, env={**own, **exporting, **variables})
            stack.callback(child.stop)
            children[way] = (child, port)
        drive(
            *(
                child.until(lambda p=port: get(p, "/health/live")[0] == 200, within=READY_WITHIN)
                for child, port in children.values()
            )
        )
        yield children


if __name__ == "__main__":
    command.run(measure, __doc__)
