"""`POST /api/users` through the gateway with everything running, beside pgbench with the same two inserts and a commit.

    python -m bench.writes [--seconds 8] [--rounds 3]

pgbench inserts into copies of the tables, with their indexes, but without the trigger that wakes the relay. Both have as many
clients. The last rows are about overload: many more clients than the system can serve. Requires `wrk`.
"""

import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import psycopg

from bench import command, load
from bench.live import Live
from bench.table import Row, each, ratio
from embedded.postgres import PACKAGE

OF_PGBENCH = 0.1
LONGEST_MS = 1000
MANY = 256
"""Clients at once, each with a connection, in the measurement under overload."""

REQUEST = """\
local number = 0
local run = tostring({}):sub(8) .. os.time()
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  number = number + 1
  return wrk.format(nil, nil, nil, '{"email":"' .. run .. "-" .. number .. '@example.org","name":"Ada Lovelace"}')
end
"""
TABLES = "CREATE TABLE bench_users (LIKE users INCLUDING ALL); CREATE TABLE bench_outbox (LIKE outbox INCLUDING ALL)"
INSERTS = """\
BEGIN;
INSERT INTO bench_users (id, email, name, created_at, modified_at)
VALUES (gen_random_uuid(), gen_random_uuid()::text || '@example.org', 'Ada Lovelace', now(), now());
INSERT INTO bench_outbox (event_id, topic, key, payload, headers, request_id)
VALUES (gen_random_uuid(), 'user.created', gen_random_uuid()::text, decode(repeat('78', 180), 'hex'),
        jsonb_build_array(repeat('x', 600)), 'r');
COMMIT;
"""


def measure(live: Live, rounds: int = 3, seconds: int = 8) -> list[Row]:
    """Measure, and return a row for the throughput and one for the response times under overload."""
    what = f"`POST /api/users` through the gateway, everything running, {load.CONNECTIONS} connections"
    if shutil.which("wrk") is None:
        return [Row(what, "not measured: `apt install wrk`, missing on this machine", "", None, "", None)]
    runs, theirs, crowded = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        script, inserts = Path(name) / "post.lua", Path(name) / "inserts.sql"
        script.write_text(REQUEST)
        inserts.write_text(INSERTS)
        with closing(psycopg.connect(live.engines.postgres.url("userdb"), autocommit=True)) as database:
            database.execute(TABLES.encode())
        url = f"{live.addresses['GATEWAY_URL']}/api/users"
        load.run(url, 2, script=script)  # warm
        for number in range(rounds):
            print(f"{what}, round {number + 1}, followed by pgbench", file=sys.stderr, flush=True)
            runs.append(load.run(url, seconds, script=script))
            theirs.append(_pgbench(live, inserts, seconds))
            crowded.append(load.run(url, seconds, connections=MANY, script=script))
    ours = [run.per_second for run in runs]
    found, longest = ratio(ours, theirs), max(run.p99 for run in (*runs, *crowded))
    taken = f"{each([run.per_second for run in crowded])} requests/s, {each([run.refused for run in crowded])} refused"
    return [
        Row(
            what,
            f"{each(ours)} requests/s, p99 {each([run.p99 for run in runs])} ms",
            f"pgbench, the same inserts and commits: {each(theirs)}/s",
            found,
            f"≥ {OF_PGBENCH}",
            found >= OF_PGBENCH,
        ),
        Row(
            f"the same with {MANY} connections",
            f"p99 {each([run.p99 for run in crowded])} ms, {taken}",
            "",
            None,
            f"p99 ≤ {LONGEST_MS} ms",
            longest <= LONGEST_MS,
        ),
    ]


def _pgbench(live: Live, inserts: Path, seconds: int) -> float:
    """Transactions per second."""
    program = files(PACKAGE) / "pginstall" / "bin" / "pgbench"
    command = [
        str(program), "-n", "-M", "prepared", "-f", str(inserts), "-c", str(load.CONNECTIONS), "-j", "1",
        "-T", str(seconds), live.engines.postgres.url("userdb"),
    ]  # fmt: skip
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split("tps = ")[1].split()[0])


if __name__ == "__main__":
    command.run(measure, __doc__)
