"""The goals that require the whole system, each with its reference."""

import statistics
import sys
from collections.abc import Callable, Iterator

from bench import alone, processes, reads, stalled, story, tracing, writes
from bench.bare import Bare
from bench.drain import EVENTS, Drain, drain
from bench.live import Live
from bench.table import Row, each, percentile, ratio

USERS = 100
STALLED, STORY, DRAIN, RELAY, PAYMENTS, MEMORY_MIB = 2, 2, 0.3, 0.5, 0.8, 500


def measure(live: Live, names: list[str], rounds: int) -> dict[str, list[Row]]:
    """Measure these goals, in the order of SYSTEM. Returns the rows of each."""
    with Bare(live.engines) as bare:
        measured = {name: SYSTEM[name](live, bare, rounds) for name in names}
    return {name: found if isinstance(found, list) else [found] for name, found in measured.items()}


def _stalled(live: Live, bare: Bare, rounds: int) -> Row:
    port = live.ports["gateway"]
    stalled.response_times(port)  # warm
    ours, theirs = [], []
    for number in range(rounds):
        _report(f"stalled uploads, round {number + 1}: {stalled.REQUESTS} requests without them, and as many with them")
        theirs.append(percentile(stalled.response_times(port), 99) * 1000)
        with stalled.uploads(port):
            ours.append(percentile(stalled.response_times(port), 99) * 1000)
    return Row(
        f"requests of others while {stalled.CLIENTS} clients have stopped within their uploads",
        f"p99 {each(ours)} ms",
        f"the same requests without these clients: p99 {each(theirs)} ms",
        ratio(ours, theirs),
        f"≤ {STALLED}",
        ratio(ours, theirs) <= STALLED,
    )


def _story(live: Live, bare: Bare, rounds: int) -> Row:
    story.play(live, bare, 20)  # warm
    played = []
    for number in range(rounds):
        _report(f"story, round {number + 1}: {USERS} users, one after another, each followed by the bare steps")
        played.append(story.play(live, bare, USERS))
    ours, theirs = (
        [percentile(x, 50) * 1000 for x in xs] for xs in ([p.stories for p in played], [p.bare for p in played])
    )
    worst, their_worst = (
        [percentile(x, 99) * 1000 for x in xs] for xs in ([p.stories for p in played], [p.bare for p in played])
    )
    steps = {step: statistics.median(one.steps[step] for one in played) for step in story.STEPS}
    return Row(
        "`POST /api/users` to order paid, idle system",
        f"p50 {each(ours)} ms, p99 {each(worst)} ms",
        f"the bare steps (two commits, three hops, one Kafka transaction): p50 {each(theirs)} ms, p99 {each(their_worst)} ms",
        ratio(ours, theirs),
        f"p50 ≤ {STORY}",
        ratio(ours, theirs) <= STORY,
        [f"{seconds * 1000:.1f} ms {step}" for step, seconds in steps.items()],
    )


def _drain(live: Live, bare: Bare, rounds: int) -> Row:
    drain(live, EVENTS // 10)  # warm
    bare.drain(EVENTS // 10)
    drained: list[Drain] = []
    theirs: list[float] = []
    for number in range(rounds):
        _report(f"drain, round {number + 1}: {EVENTS} events")
        drained.append(drain(live))
        theirs.append(bare.drain(EVENTS))
    ours = [one.per_second for one in drained]
    cost = {part: statistics.median(one.cost[part] for one in drained) for part in drained[0].cost}
    used = sum(cost.values())
    return Row(
        f"{EVENTS:,} `user.created` waiting → all orders settled, one process of each kind",
        f"{each(ours)} orders/s",
        f"the bare steps in batches of 500, one process: {each(theirs)}/s",
        ratio(ours, theirs),
        f"≥ {DRAIN}",
        ratio(ours, theirs) >= DRAIN,
        [
            f"{used:.0f} µs of CPU time per order in total: two cores could process {2e6 / used:,.0f} orders per second",
            *(
                f"{micros:.0f} µs {part}"
                for part, micros in sorted(cost.items(), key=lambda item: -item[1])
                if micros > 5
            ),
        ],
    )


def _reads(live: Live, bare: Bare, rounds: int) -> list[Row]:
    return reads.measure(live, rounds)


def _writes(live: Live, bare: Bare, rounds: int) -> list[Row]:
    return writes.measure(live, rounds)


def _relay(live: Live, bare: Bare, rounds: int) -> Row:
    alone.relay(live)  # warm
    return _alone(
        "relay of orders alone",
        "rows",
        "a bare producer of the same records",
        [alone.relay(live) for _ in _rounds("relay", rounds)],
        RELAY,
    )


def _payments(live: Live, bare: Bare, rounds: int) -> Row:
    with alone.payments(live) as payments:
        measured = [payments.measure() for _ in _rounds("payments", rounds)]
    bare_loop = f"a bare transactional loop in batches of {alone.BATCH}"
    return _alone("consumer of payments alone", "payments", bare_loop, measured, PAYMENTS)


def _rounds(what: str, rounds: int) -> Iterator[None]:
    for number in range(rounds):
        _report(f"{what}, round {number + 1}: {alone.EVENTS} events")
        yield


def _alone(what: str, unit: str, reference: str, measured: list[tuple[float, float]], goal: float) -> Row:
    ours, theirs = [one for one, _ in measured], [other for _, other in measured]
    return Row(
        f"{what}, {alone.EVENTS:,} events waiting",
        f"{each(ours)} {unit}/s",
        f"{reference}: {each(theirs)}/s",
        ratio(ours, theirs),
        f"≥ {goal}",
        ratio(ours, theirs) >= goal,
    )


def _tracing(live: Live, bare: Bare, rounds: int) -> list[Row]:
    return tracing.measure(live, rounds)


def _memory(live: Live, bare: Bare, rounds: int) -> Row:
    _report("memory")
    parts = {name: child.family() for name, child in live.children.items()}
    parts["fork server"] = processes.of_multiprocessing()
    with live.idle_runner() as runner:
        parts["up"] = [runner.pid]
        used = {name: processes.memory(pids) for name, pids in parts.items()}
    pss, rss = sum(one.pss for one in used.values()), sum(one.rss for one in used.values())
    count = sum(map(len, parts.values()))
    return Row(
        "memory of all Python processes of `make up` after that",
        f"{pss:.0f} MiB (PSS, which counts memory shared by the {count} processes once; RSS, which counts it for each: {rss:.0f} MiB)",
        "",
        None,
        f"≤ {MEMORY_MIB} MiB",
        pss <= MEMORY_MIB,
        [f"{one.pss:.0f} MiB {name} (RSS {one.rss:.0f})" for name, one in used.items()],
    )


def _report(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


SYSTEM: dict[str, Callable[[Live, Bare, int], Row | list[Row]]] = {
    "stalled": _stalled,
    "reads": _reads,
    "writes": _writes,
    "story": _story,
    "drain": _drain,
    "relay": _relay,
    "payments": _payments,
    "memory": _memory,
    "tracing": _tracing,
}
