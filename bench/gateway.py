"""The gateway compared to nginx and others: proxied GETs on 32 connections, one worker each, all features enabled.

    python -m bench.gateway [--seconds 5] [--rounds 3]

Both proxy the same nginx, which serves 107 bytes of JSON from memory. They are measured alternately, so that other load
on the machine affects both; so are Envoy, Traefik and Caddy, where they are installed (`bench/proxies.py`). Requires `nginx`
and `wrk`.
"""

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import load, proxies
from bench.load import CONNECTIONS
from bench.table import Row, each, markdown, ratio

ROOT = Path(__file__).resolve().parent.parent
GOAL, AHEAD = 0.3, 1
"""Of nginx, and of the other proxies."""
NGINX_NAME, OURS = "nginx", "gateway"
BODY = '{"id":"6f1c2a9e-3b7d-4c58-9e02-d4a1b8c7f635","email":"a@b.example","name":"A","createdAt":"2026-01-01T00Z"}'
assert len(BODY) == 107

NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/{name}.pid;
error_log {folder}/{name}.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/{name}-body;
    proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-fastcgi;
    uwsgi_temp_path {folder}/{name}-uwsgi;
    scgi_temp_path {folder}/{name}-scgi;
    {http}
}}
"""
UPSTREAM = "server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{body}'; }} }}"
PROXY = """\
    upstream service {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location /api/ {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://service/; }}
    }}
"""


def measure(seconds: int = 5, rounds: int = 3) -> list[Row]:
    """Measure, and return a row for each other proxy. Without nginx or wrk, one row names the missing program."""
    what = f"proxied `GET` at the gateway, one worker, {CONNECTIONS} connections"
    missing = [program for program in ("nginx", "wrk") if shutil.which(program) is None]
    if missing:
        hint = f"not measured: `apt install {' '.join(missing)}`, missing on this machine"
        return [Row(what, hint, "", None, f"≥ {GOAL}", None)]
    with _running() as urls:
        runs: dict[str, list[load.Run]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, url in urls.items():
                runs[name].append(_run(url, seconds))
    ours = [run.per_second for run in runs[OURS]]
    return [
        Row(
            what if name == NGINX_NAME else f"{what}, beside {name}",
            _summary(runs[OURS]),
            f"{name} as the proxy, one worker: {_summary(theirs)}",
            found,
            f"≥ {goal}",
            found >= goal,
        )
        for name, theirs in runs.items()
        if name != OURS
        for goal in [GOAL if name == NGINX_NAME else AHEAD]
        for found in [ratio(ours, [run.per_second for run in theirs])]
    ]


def _summary(runs: list[load.Run]) -> str:
    p99 = each([run.p99 for run in runs], "{:.1f}".format)
    return f"{each([run.per_second for run in runs])} requests/s, p99 {p99} ms"


@contextlib.contextmanager
def _running() -> Iterator[dict[str, str]]:
    others = proxies.installed()
    upstream, nginx, gateway, *more = _free_ports(3 + len(others))
    listening = {NGINX_NAME: nginx, OURS: gateway, **{one.name: port for one, port in zip(others, more, strict=True)}}
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        for server, http in (
            ("upstream", UPSTREAM.format(port=upstream, body=BODY)),
            ("proxy", PROXY.format(port=nginx, upstream=upstream)),
        ):
            configuration = folder / f"{server}.conf"
            configuration.write_text(NGINX.format(folder=folder, name=server, http=http))
            stack.enter_context(_process(["nginx", "-c", str(configuration)], folder / f"{server}.out"))
        command = [sys.executable, "manage.py", "serve", "--settings=settings.gateway", "--port", str(gateway)]
        # As in production, every line is logged to a file.
        variables = {"ENVIRONMENT": "development", "LOG_FORMAT": "json", "USERS_URL": f"http://127.0.0.1:{upstream}"}
        stack.enter_context(_process(command, folder / "gateway.out", variables))
        for one in others:
            command = one.start(folder, listening[one.name], upstream)
            stack.enter_context(_process(command, folder / f"{one.program}.out", proxies.ONE_WORKER))
        for port in (upstream, *listening.values()):
            _wait(port)
        yield {name: f"http://127.0.0.1:{port}/api/users/1" for name, port in listening.items()}


@contextlib.contextmanager
def _process(command: list[str], log: Path, variables: dict[str, str] | None = None) -> Iterator[None]:
    with log.open("wb") as output:
        environment = {**os.environ, **(variables or {})}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _run(url: str, seconds: int) -> load.Run:
    result = load.run(url, seconds)
    assert not result.refused, result
    return result


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(markdown(measure(options.seconds, options.rounds)))


if __name__ == "__main__":
    main()
