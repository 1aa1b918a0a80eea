"""The report of a run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chaos.accounting import DEAD_LETTERED, KINDS, Check, verdict
from chaos.evidence import Evidence
from chaos.load import Response
from chaos.plan import Plan
from chaos.schedule import Fault
from embedded.topics import DEAD_LETTER_TOPICS, EVENTS

WIDTH = 62


@dataclass
class Outcome:
    """The result of a run."""

    plan: Plan
    faults: Sequence[Fault]
    evidence: Evidence
    checks: Sequence[Check]
    load_seconds: float
    settle_seconds: float
    deaths: Sequence[str]
    ignored_sigterm: Sequence[str]

    @property
    def bugs(self) -> bool:
        """Whether a client received a 500. Nothing is lost, but the logs should be examined."""
        return any(response.status == 500 for response in self.evidence.responses)

    @property
    def as_promised(self) -> bool:
        """Whether nothing is wrong, and at least one request succeeded."""
        return not any(verdict(self.checks).values()) and any(a.status == 201 for a in self.evidence.responses)


def lines(outcome: Outcome) -> list[str]:
    """The lines of the report."""
    found = verdict(outcome.checks)
    return [
        f"chaos {outcome.plan}",
        "",
        *_faults(outcome),
        "",
        *_responses(outcome.evidence.responses),
        "",
        *_result(outcome),
        "",
        *(
            _row(kind, found[kind], "" if not found[kind] else "  <-- must be 0")
            for kind in KINDS
            if kind != DEAD_LETTERED
        ),
        *_poison(outcome),
        _row("seconds until settled, from the last fault or answer", f"{outcome.settle_seconds:.1f}"),
        *_wrong(outcome.checks),
        "",
        "As promised." if outcome.as_promised else "NOT as promised.",
    ]


def _faults(outcome: Outcome) -> list[str]:
    groups = Counter((_group(fault.target), fault.kind) for fault in outcome.faults)
    targets = dict.fromkeys(target for target, _ in sorted(groups))
    rows = [
        _row(target, ", ".join(f"{count} {kind}" for (t, kind), count in sorted(groups.items()) if t == target))
        for target in targets
    ]
    exits = [_row("processes that exited by themselves", len(outcome.deaths)), *(f"    {d}" for d in outcome.deaths)]
    late = [_row("processes that did not exit in time after SIGTERM", len(outcome.ignored_sigterm))]
    return [f"faults in {outcome.load_seconds:.0f} s of load", *rows, *exits, *late]


def _group(target: str) -> str:
    name, _, number = target.rpartition("-")
    return name if number.isdigit() else target


def _responses(responses: Sequence[Response]) -> list[str]:
    rows = ["responses to clients"]
    for kind in ("user", "order"):
        of_kind = [response for response in responses if response.request.kind == kind]
        rows.append(_row(f"POST /api/{kind}s", len(of_kind)))
        counts = Counter((a.status, a.cause) for a in of_kind)
        rows += [_row(f"  {_status(*what)}", count) for what, count in counts.most_common()]
    return rows


def _status(status: int, cause: str) -> str:
    return f"{status or 'no response:'} {cause}".strip()


def _result(outcome: Outcome) -> list[str]:
    evidence = outcome.evidence
    welcome = sum(order.product == "welcome-product" for order in evidence.orders)
    events_written = sum(len(events) for events in evidence.sequences.values())
    by_status = Counter(order.status for order in evidence.orders)
    events = {topic: evidence.seen[topic] for topic in EVENTS}
    duplicates = [f"{len(seen) - len({r.id or r.place for r in seen})} {topic}" for topic, seen in events.items()]
    return [
        "result",
        _row("users", len(evidence.users)),
        _row("artificial users for sequences, and their events", f"{len(evidence.sequences)}, {events_written}"),
        _row("welcome orders", welcome),
        _row("other orders", len(evidence.orders) - welcome),
        _row("orders by status", ", ".join(f"{count} {status}" for status, count in sorted(by_status.items()))),
        _row("records on the topics", ", ".join(f"{len(seen)} {topic}" for topic, seen in events.items())),
        _row("of these, duplicates of an event", ", ".join(duplicates)),
    ]


def _poison(outcome: Outcome) -> list[str]:
    dead_letters = {
        record.header("deadletter-id") for name in DEAD_LETTER_TOPICS.values() for record in outcome.evidence.seen[name]
    }
    wrong = verdict(outcome.checks)[DEAD_LETTERED]
    return [
        _row("poison sent", len(outcome.evidence.poison)),
        _row("dead letters", len(dead_letters)),
        _row("poison without its dead letter and reason", wrong, "  <-- must be 0" if wrong else ""),
    ]


def _wrong(checks: Iterable[Check]) -> list[str]:
    broken = [f"  {check}" for check in checks if check.wrong]
    return ["", "what is wrong", *broken] if broken else []


def _row(what: str, value: object, remark: str = "") -> str:
    return f"  {what:<{WIDTH}} {value}{remark}"
