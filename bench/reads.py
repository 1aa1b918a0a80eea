"""`GET /users/{id}` and a list of 20, directly and through the gateway, beside a bare WSGI function and plain REST framework.

    python -m bench.reads [--seconds 4] [--rounds 3]

The references (`bench/references/`) read the same table, with as many processes as the service has; behind nginx where ours
is behind the gateway. All are measured alternately. Requires `nginx` and `wrk`.
"""

import contextlib
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2

from bench import command, gateway, load
from bench.live import Live
from bench.table import Row, each, ratio
from embedded import ports
from embedded.processes import Child, drive
from embedded.runner import READY_WITHIN, get
from embedded.system import ROOT

OURS, BARE, PLAIN = "ours", "bare", "plain"
USERS = 50


@dataclass(frozen=True)
class Work:
    """What is requested, where, and how it should compare to the two references."""

    what: str
    path: str
    behind_proxy: bool
    of_bare: float
    of_plain: float


Urls = dict[tuple[str, bool], str]
"""The base URL of each system, and whether it is that of the proxy in front of it."""


def measure(live: Live, rounds: int = 3, seconds: int = 4) -> list[Row]:
    """Measure, and return two rows for each work. Without nginx or wrk, one row names the missing programs."""
    missing = [program for program in ("nginx", "wrk") if shutil.which(program) is None]
    if missing:
        hint = f"not measured: `apt install {' '.join(missing)}`, missing on this machine"
        return [Row("reads", hint, "", None, "", None)]
    user = _users(live)
    works = (
        Work("`GET /users/{id}` at the service", f"/users/{user}", False, 0.3, 1.5),
        Work("`GET /api/users/{id}` through the gateway", f"/users/{user}", True, 0.25, 1.5),
        Work("a list of 20 users through the gateway", "/users?limit=20", True, 0.25, 1.5),
    )
    rows = []
    with _systems(live) as urls:
        for work in works:
            print(f"{work.what}: {rounds} rounds of {seconds} s, ours, bare and plain", file=sys.stderr, flush=True)
            rows += _rows(work, _alternately(work, urls, rounds, seconds))
    return rows


def processes(live: Live) -> int:
    """How many web processes users has."""
    return len(live.children["users"].family()) - 1


def _alternately(work: Work, urls: Urls, rounds: int, seconds: int) -> dict[str, list[load.Run]]:
    systems = [OURS, BARE, PLAIN]
    runs: dict[str, list[load.Run]] = {system: [] for system in systems}
    for system in systems:
        load.run(urls[system, work.behind_proxy] + work.path, 1)  # warm
    for number in range(rounds):
        for system in systems[number % 3 :] + systems[: number % 3]:
            runs[system].append(load.run(urls[system, work.behind_proxy] + work.path, seconds))
    return runs


def _rows(work: Work, runs: dict[str, list[load.Run]]) -> list[Row]:
    rates = {system: [run.per_second for run in found] for system, found in runs.items()}
    shown = {
        system: f"{each(rates[system])} requests/s, p99 {each([run.p99 for run in found])} ms{_refused(found)}"
        for system, found in runs.items()
    }
    behind = ", behind nginx" if work.behind_proxy else ""
    return [
        Row(what, shown[OURS], f"{reference}{behind}: {shown[system]}", found, f"≥ {goal}", found >= goal)
        for what, system, reference, goal in (
            (work.what, BARE, "a WSGI function with psycopg and orjson", work.of_bare),
            (f"{work.what}, beside plain REST framework", PLAIN, "a plain `ModelViewSet`", work.of_plain),
        )
        for found in [ratio(rates[OURS], rates[system])]
    ]


def _refused(runs: list[load.Run]) -> str:
    return f", {each([run.refused for run in runs])} refused" if any(run.refused for run in runs) else ""


def _users(live: Live) -> str:
    """Create users, and return the id of one."""
    with httpx2.Client(base_url=live.addresses["USERS_URL"]) as client:
        for number in range(USERS):
            response = client.post("/users", json={"email": f"reads-{number}@example.org", "name": "Ada Lovelace"})
            response.raise_for_status()
    return str(response.json()["id"])


@contextlib.contextmanager
def _systems(live: Live) -> Iterator[Urls]:
    proxies = dict(zip((BARE, PLAIN), ports.free(2), strict=True))
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        urls: Urls = {
            (OURS, False): live.addresses["USERS_URL"],
            (OURS, True): f"{live.addresses['GATEWAY_URL']}/api",
        }
        for system, proxy in proxies.items():
            service = stack.enter_context(reference(live, system, folder))
            configuration = folder / f"{system}.conf"
            http = gateway.PROXY.format(port=proxy, upstream=service)
            configuration.write_text(gateway.NGINX.format(folder=folder, name=system, http=http))
            nginx = ["nginx", "-c", str(configuration)]
            stack.enter_context(_running(Child(nginx, name=system, log=folder / "nginx.log"), proxy, "/api/users"))
            urls[system, False] = f"http://127.0.0.1:{service}"
            urls[system, True] = f"http://127.0.0.1:{proxy}/api"
        yield urls


@contextlib.contextmanager
def reference(live: Live, name: str, folder: Path) -> Iterator[int]:
    """Run a reference, with as many processes as users has, and yield its port.

    Each process has one thread, which is faster than several, and connections are kept. The limit of connections makes both
    processes work: without it, one has all of them in about every second run, and the reference is half as fast.
    """
    [port] = ports.free(1)
    connections = math.ceil(load.CONNECTIONS * 1.25 / processes(live))
    command = [
        sys.executable, "-m", "gunicorn", f"bench.references.{name}:application", "--bind", f"127.0.0.1:{port}",
        "--worker-class", "gthread", "--threads", "1", "--workers", str(processes(live)), "--keep-alive", "75",
        "--worker-connections", str(connections),
    ]  # fmt: skip
    environment = {**os.environ, "DATABASE_URL": live.engines.postgres.url("userdb")}
    child = Child(command, name=name, log=folder / f"{name}.log", cwd=ROOT, env=environment)
    with _running(child, port, "/users"):
        yield port


@contextlib.contextmanager
def _running(child: Child, port: int, path: str) -> Iterator[None]:
    try:
        drive(child.until(lambda: get(port, path)[0] == 200, within=READY_WITHIN))
        yield
    finally:
        child.stop()


if __name__ == "__main__":
    command.run(measure, __doc__)
