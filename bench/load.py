"""Load by wrk: requests on many connections, as fast as they are answered."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 32
PATIENCE_SECONDS = 30
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Run:
    """The result of a run: requests served per second, p99 in milliseconds, and how many were refused: not 2xx or 3xx."""

    per_second: float
    p99: float
    refused: int


def run(url: str, seconds: int, *, connections: int = CONNECTIONS, script: Path | None = None) -> Run:
    """Send requests to `url`: GETs, or what the Lua `script` makes. Raises AssertionError if a connection fails."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE_SECONDS}s", "--latency"]
    if script is not None:
        command += ["-s", str(script)]
    output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    assert "Socket errors" not in output, output
    return parse(output)


def parse(output: str) -> Run:
    """The result in the output of wrk."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"^\s+99%\s+([\d.]+)(us|ms|s|m) *$", output, re.MULTILINE)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    assert rate is not None, output
    assert p99 is not None, output
    requests = re.search(r"(\d+) requests in", output)
    assert requests is not None, output
    number = int(refused[1]) if refused else 0
    served = 1 - number / max(int(requests[1]), 1)  # a busy machine may answer none in time
    return Run(float(rate[1]) * served, float(p99[1]) * _UNITS[p99[2]], number)
