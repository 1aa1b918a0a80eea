import pytest

from bench.load import Run, parse

OUTPUT = """\
Running 3s test @ http://127.0.0.1:1/users
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    12.29ms    8.68ms  58.45ms   70.56%
  Latency Distribution
     50%   10.83ms
     99%   {p99}
  8059 requests in 3.01s, 2.29MB read
{refused}Requests/sec:   2676.53
Transfer/sec:      0.76MB
"""


@pytest.mark.parametrize(("text", "p99"), [("41.20ms", 41.2), ("1.25s ", 1250), ("950.00us", 0.95)])
def test_times_are_in_milliseconds(text, p99):
    assert parse(OUTPUT.format(p99=text, refused="")) == Run(2676.53, pytest.approx(p99), 0)


def test_refused_requests_are_counted():
    refused = "  Non-2xx or 3xx responses: 17\n"
    found = parse(OUTPUT.format(p99="1.00ms", refused=refused))
    assert found.refused == 17
    assert found.per_second == pytest.approx(2676.53 * (8059 - 17) / 8059)


def test_a_machine_that_answered_nothing():
    output = OUTPUT.format(p99="0.00us", refused="").replace("8059 requests", "0 requests").replace("2676.53", "0.00")
    assert parse(output) == Run(0.0, 0.0, 0)
