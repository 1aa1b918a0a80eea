"""What traces cost: requests per second without an exporter, and with one for no request, for every tenth, and for all.

    python -m bench.tracing [--seconds 3] [--rounds 5]

At the gateway, in front of an upstream that costs nothing, and at users, with its database. One process for each way of
sampling runs all the time; they are measured alternately, so that other load on the machine affects all. The collector
accepts everything and looks at nothing. Requires `nginx` and `wrk`.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench import gateway
from bench.live import Live, running
from bench.table import Row, each, markdown, ratio
from embedded.system import environment

UNSAMPLED, TENTH = 0.95, 0.90
OTLP = {"OTEL_TRACES_EXPORTER": "otlp"}
WAYS: dict[str, dict[str, str]] = {
    "off": {"OTEL_TRACES_EXPORTER": "none"},
    "unsampled": {**OTLP, "OTEL_TRACES_SAMPLER": "parentbased_always_off"},
    "10 %": {**OTLP, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
    "all": {**OTLP, "OTEL_TRACES_SAMPLER": "parentbased_always_on"},
}
COLLECTOR = "server {{ listen 127.0.0.1:{port}; client_max_body_size 64m; location /v1/traces {{ return 200; }} }}"
WARM_SECONDS = 1

Rates = dict[str, list[float]]
"""The requests per second of each round, by the way of sampling."""


def measure(live: Live, rounds: int = 5, seconds: int = 3) -> list[Row]:
    """Measure, and return two rows of the table for each place. Without nginx or wrk, one row names the missing programs."""
    missing = [program for program in ("nginx", "wrk") if shutil.which(program) is None]
    if missing:
        hint = f"not measured: `apt install {' '.join(missing)}`, missing on this machine"
        return [Row("traces", hint, "", None, f"≥ {UNSAMPLED}", None)]
    rows = []
    for place, what, processes in (
        ("the gateway", "proxied `GET` at the gateway", _gateways),
        ("users", "`GET /users/{id}` at users, with its database", _users),
    ):
        print(f"traces at {place}: {rounds} rounds of {len(WAYS)} × {seconds} s", file=sys.stderr, flush=True)
        with processes(live) as urls:
            rows += _rows(what, _alternately(urls, rounds, seconds))
    return rows


def _alternately(urls: dict[str, str], rounds: int, seconds: int) -> Rates:
    rates: Rates = {way: [] for way in urls}
    for url in urls.values():
        gateway._wrk(url, WARM_SECONDS)
    for number in range(rounds):
        # Each round in another order, since what runs first finds another machine than what runs last.
        ways = [*urls][number % len(urls) :] + [*urls][: number % len(urls)]
        for way in ways:
            rates[way].append(gateway._wrk(urls[way], seconds).per_second)
    return rates


def _rows(what: str, rates: Rates) -> list[Row]:
    ratios = {way: ratio(found, rates["off"]) for way, found in rates.items()}
    reference = f"without an exporter: {each(rates['off'])} requests/s"
    everything = f"{ratios['all']:.2f} of it if all are recorded: {each(rates['all'])} requests/s"
    return [
        Row(
            f"{what}, traces {name}",
            f"{each(rates[way])} requests/s",
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
def _gateways(live: Live) -> Iterator[dict[str, str]]:
    upstream, collector, *ports = gateway._free_ports(2 + len(WAYS))
    servers = gateway.UPSTREAM.format(port=upstream, body=gateway.BODY), COLLECTOR.format(port=collector)
    with _nginx(*servers) as folder, contextlib.ExitStack() as stack:
        for port, variables in zip(ports, WAYS.values(), strict=True):
            command = [sys.executable, "manage.py", "serve", "--settings=settings.gateway", "--port", str(port)]
            own = {"ENVIRONMENT": "development", "LOG_FORMAT": "json", "USERS_URL": f"http://127.0.0.1:{upstream}"}
            _start(stack, command, folder, port, {**own, **_exporting(collector), **variables})
        yield {way: f"http://127.0.0.1:{port}/api/users/1" for way, port in zip(WAYS, ports, strict=True)}


@contextlib.contextmanager
def _users(live: Live) -> Iterator[dict[str, str]]:
    collector, *ports = gateway._free_ports(1 + len(WAYS))
    body = json.dumps({"email": "bench@example.org", "name": "Bench"}).encode()
    with _nginx(COLLECTOR.format(port=collector)) as folder, contextlib.ExitStack() as stack:
        for port, variables in zip(ports, WAYS.values(), strict=True):
            own = environment("users", addresses=live.addresses, secret_key="x" * 50)
            command = [sys.executable, "-m", "gunicorn", "users.wsgi:application", "--config", "settings/gunicorn.py"]
            variables = {**own, "LOG_FORMAT": "json", "OUTBOX_CHECK_KEYS": "off", **_exporting(collector), **variables}
            _start(stack, [*command, "--bind", f"127.0.0.1:{port}"], folder, port, variables)
        request = urllib.request.Request(
            f"http://127.0.0.1:{ports[0]}/users", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            user = json.load(answer)["id"]
        yield {way: f"http://127.0.0.1:{port}/users/{user}" for way, port in zip(WAYS, ports, strict=True)}


def _exporting(collector: int) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}


def _start(stack: contextlib.ExitStack, command: list[str], folder: Path, port: int, variables: dict[str, str]) -> None:
    stack.enter_context(gateway._process(command, folder / f"{port}.out", variables))
    gateway._wait(port)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with running() as live:
        print(markdown(measure(live, options.rounds, options.seconds)))


if __name__ == "__main__":
    main()
