"""The diagram of a story from its spans: what becomes a lifeline, a step, a bar."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from console.sequence.folding import Fold, Tree, fold, is_sql
from console.sequence.model import Bar, Diagram, Lifeline, Step, duration_text
from console.stores import otlp
from console.stores.model import Happening, Line, Span

CLIENT = Lifeline("client", "client")
BATCH = "process batch"
"""The name of the span of a batch of events, which has a trace of its own, and links to the event of each story in it."""
AFTER_FAILURE = {
    "retry": "will be tried again",
    "hold": "waits for what does not respond",
    "set aside": "set aside: it was too slow",
    "topic stopped": "the topic is stopped",
    "rolled back": "rolled back, to be divided",
}
"""The events of a span that tell what follows a failed attempt."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the diagram needs besides spans."""

    databases: Mapping[str, str] = field(default_factory=dict)
    """The database of each service that has one."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """Names of processes by `host:port`."""
    lines: Sequence[Line] = ()


def diagram(spans: Sequence[Span], context: Context, opened: Iterable[str] = ()) -> Diagram:
    """The diagram of these spans; folds with an id in `opened` are shown in full."""
    return _Builder(spans, context).build(opened)


class _Builder:
    def __init__(self, spans: Sequence[Span], context: Context) -> None:
        self._tree = Tree(spans)
        self._context = context
        self._errors = _errors(context.lines)
        self._begun = min((span.begun for span in spans), default=0)
        self._databases = {**context.databases, **_databases(spans)}
        self._attempts: dict[tuple[str, str], list[Span]] = {}
        for span in self._tree.by_id.values():
            if span.kind == "CONSUMER":
                self._attempts.setdefault(_delivery(span), []).append(span)
        self._read_at = _read_at(self._tree.by_id.values())
        self._out = Diagram(begun=self._begun, ended=max((span.ended for span in spans), default=0))

    def build(self, opened: Iterable[str]) -> Diagram:
        shown, folds = fold(self._tree, opened)
        for span in sorted(shown, key=lambda one: one.begun):
            self._draw_of(span)(span)
            self._draw_exceptions(span)
        for one in folds:
            self._draw_fold(one)
            self._out.folded += one.count + one.inner
        self._out.steps.sort(key=lambda step: (step.at, step.ranks))
        self._out.lifelines = self._lifelines()
        return self._out

    def _draw_of(self, span: Span) -> Callable[[Span], None]:
        if is_sql(span):
            return self._draw_sql
        return {
            "SERVER": self._draw_server,
            "CLIENT": self._draw_client,
            "PRODUCER": self._draw_producer,
            "CONSUMER": self._draw_consumer,
        }.get(span.kind, self._draw_internal)

    # --- HTTP ---

    def _draw_server(self, span: Span) -> None:
        caller = self._tree.by_id.get(span.parent_id)
        source = CLIENT if caller is None else _process(caller)
        lifeline, failed = _process(span), span.error is not None
        self._step(span, span.begun, source, lifeline, "http", span.name)
        self._bar(lifeline, span.begun, span.ended, "http", span.span_id, failed=failed)
        if caller is None or caller.kind != "CLIENT":
            self._reply(span, lifeline, source)

    def _draw_client(self, span: Span) -> None:
        server = next((one for one in self._tree.children(span.span_id) if one.kind == "SERVER"), None)
        lifeline = _process(span)
        peer = _process(server) if server else Lifeline("peer", self._peer(span))
        if server is None:
            self._step(span, span.begun, lifeline, peer, "http", span.name)
            self._bar(
                peer, span.begun, span.ended, "http", span.span_id, failed=span.error is not None, is_waiting=True
            )
        self._reply(span, peer, lifeline)

    def _reply(self, span: Span, source: Lifeline, target: Lifeline) -> None:
        status = str(span.attributes.get("http.response.status_code") or span.attributes.get("error.type") or "ended")
        resends = _int(span.attributes.get("http.request.resend_count"))
        resent = f", sent {1 + resends} times" if resends else ""
        text = f"{status} after {duration_text(span.ended - span.begun)}{resent}"
        self._step(
            span,
            span.ended,
            source,
            target,
            "http",
            text,
            suffix="-end",
            failed=span.error is not None,
            is_reply=True,
            ranks=3,
        )

    def _peer(self, span: Span) -> str:
        host, port = span.attributes.get("server.address") or "?", span.attributes.get("server.port")
        address = f"{host}:{port}" if port else str(host)
        return self._context.peers.get(address, address)

    # --- SQL ---

    def _draw_sql(self, span: Span) -> None:
        lifeline = _database(span)
        error = f": {span.attributes.get('error.type') or span.error or 'failed'}" if span.error is not None else ""
        text = f"{span.name}{error} {duration_text(span.ended - span.begun)}"
        failed = span.error is not None
        self._step(span, span.begun, _process(span), lifeline, "sql", text, failed=failed)
        self._bar(lifeline, span.begun, span.ended, "sql", span.span_id, failed=failed)

    # --- events ---

    def _draw_producer(self, span: Span) -> None:
        """A row from the outbox to the relay, and the record from there to the topic."""
        lifeline, topic, failed = _process(span), _topic(span), span.error is not None
        values = span.attributes
        waited = _seconds(values.get("outbox.wait_seconds"))
        if waited is not None:
            outbox = Lifeline("database", self._databases.get(span.service) or f"{span.service}'s outbox")
            text = f"outbox: {topic.title} waited {duration_text(waited * 1e9)}"
            self._step(span, span.begun, outbox, lifeline, "outbox", text, suffix="-taken")
            self._bar(outbox, span.begun - int(waited * 1e9), span.begun, "outbox", is_waiting=True)
        elif values.get("deadletter.id"):
            text = f"redrive of dead letter {str(values['deadletter.id'])[:8]}"
            self._step(span, span.begun, self._source_of_redrive(span), lifeline, "retry", text, suffix="-taken")
        kind = "dead" if _is_dead_letter_topic(topic) else "kafka"
        place = f" to partition {values['messaging.destination.partition.id']}" if _is_placed(span) else ""
        text = f"{span.name}{place}, {duration_text(span.ended - span.begun)}"
        if failed:
            text = f"{span.name}: parked, {span.error}"
        # A consumer may read a record before the acknowledgement of it arrives.
        at = max(span.begun, min(span.ended, self._read_at.get(span.span_id, span.ended)))
        self._step(span, at, lifeline, topic, kind, text, failed=failed, ranks=0)
        self._bar(lifeline, span.begun, span.ended, kind, span.span_id, failed=failed)

    def _source_of_redrive(self, span: Span) -> Lifeline:
        kept = (self._tree.by_id.get(link.span_id) for link in span.links)
        return next((_topic(one) for one in kept if one), _topic(span))

    def _draw_consumer(self, span: Span) -> None:
        lifeline, topic, failed = _process(span), _topic(span), span.error is not None
        attempt = _int(span.attributes.get("event.attempt")) or 1
        begun = span.begun
        if span.name == BATCH:
            text = f"batch of {span.attributes.get('messaging.batch.message_count', '?')} events"
            self._step(span, begun, lifeline, lifeline, "handler", text)
        elif attempt > 1:
            self._step(span, begun, lifeline, lifeline, "retry", f"attempt {attempt}: {span.name}")
        else:
            since = self._since(span)
            waited = f", waited {duration_text(begun - since)}" if since and begun > since else ""
            again = ", redriven" if span.attributes.get("deadletter.id") else ""
            self._step(span, begun, topic, lifeline, "kafka", f"{span.name}{again}{waited}")
            if waited:
                self._bar(topic, since, begun, "kafka", is_waiting=True)
        self._bar(lifeline, begun, span.ended, "handler", span.span_id, failed=failed or bool(_what_follows(span)))
        if span.attributes.get("event.duplicate"):
            self._step(
                span, span.ended, lifeline, lifeline, "handler", "a duplicate: skipped", suffix="-duplicate", ranks=2
            )
        self._draw_failure(span, lifeline)

    def _since(self, span: Span) -> int:
        """When the record of a CONSUMER span was on the topic; 0 if it is not known."""
        for link in span.links:
            sent = self._tree.by_id.get(link.span_id)
            if sent is not None and sent.kind == "PRODUCER":
                return min(sent.ended, span.begun)
        waited = _seconds(span.attributes.get("kafka.wait_seconds"))
        return span.begun - int(waited * 1e9) if waited else 0

    def _draw_failure(self, span: Span, lifeline: Lifeline) -> None:
        """What follows a failed attempt: a retry, after a wait, or a dead letter; and why it failed."""
        for number, one in enumerate(span.happenings):
            suffix = f"-{number}"
            if one.name == "dead letter":
                attempts = one.attributes.get("deadletter.attempts", "?")
                why = self._error(span) or str(one.attributes.get("deadletter.reason", ""))
                text = f"dead letter after {attempts} attempt{'' if attempts in (1, '1') else 's'}: {why}"
                # The span lasts until the dead letter is committed, when it may already have been sent.
                at = max((below.ended for below in self._tree.children(span.span_id)), default=span.ended)
                self._step(
                    span, min(at, span.ended), lifeline, lifeline, "dead", text, suffix=suffix, failed=True, ranks=2
                )
            elif one.name in AFTER_FAILURE:
                delay = _seconds(one.attributes.get("retry.delay_seconds"))
                what = f"tried again in {duration_text(delay * 1e9)}" if delay is not None else AFTER_FAILURE[one.name]
                text = f"failed: {self._error(span)}; {what}"
                self._step(span, span.ended, lifeline, lifeline, "retry", text, suffix=suffix, failed=True, ranks=2)
                until = self._next_attempt(span) or (span.ended + int(delay * 1e9) if delay else 0)
                if until > span.ended:
                    self._bar(lifeline, span.ended, until, "retry", is_waiting=True)

    def _next_attempt(self, span: Span) -> int:
        later = [one.begun for one in self._attempts[_delivery(span)] if one.begun >= span.ended]
        return min(later, default=0)

    def _error(self, span: Span) -> str:
        """Why an attempt failed: as the log says, or else its exception, or else its type."""
        attempt = _int(span.attributes.get("event.attempt")) or 1
        logged = self._errors.get((str(span.attributes.get("messaging.message.id")), attempt))
        return logged or _exception(span.happenings) or str(span.attributes.get("error.type") or span.error or "failed")

    # --- others ---

    def _draw_internal(self, span: Span) -> None:
        lifeline, failed = _process(span), span.error is not None
        text = f"{span.name} {duration_text(span.ended - span.begun)}"
        self._step(span, span.begun, lifeline, lifeline, "other", text, failed=failed)
        self._bar(lifeline, span.begun, span.ended, "other", span.span_id, failed=failed)

    def _draw_exceptions(self, span: Span) -> None:
        if span.kind == "CONSUMER":
            return
        for number, one in enumerate(span.happenings):
            if one.name == "exception" or (one.name == "retry" and span.kind == "CLIENT"):
                lifeline = _process(span)
                text = _exception([one]) or "sent again: the connection was closed"
                self._step(span, one.at, lifeline, lifeline, "retry", text, suffix=f"-{number}", failed=True, ranks=2)

    def _draw_fold(self, one: Fold) -> None:
        span = one.first
        if is_sql(span):
            source, target, kind = _process(span), _database(span), "sql"
        elif span.kind == "PRODUCER":
            source, target, kind = _process(span), _topic(span), "kafka"
        elif span.kind == "CONSUMER":
            source, target, kind = _topic(span), _process(span), "handler"
        else:
            source = target = _process(span)
            kind = "http" if span.kind in {"SERVER", "CLIENT"} else "other"
        below = f", with {one.inner:,} spans below" if one.inner else ""
        text = f"{_times(one)}, {duration_text(one.total)} in all{below}"
        self._out.steps.append(
            Step(
                f"{one.id}-fold",
                span.span_id,
                span.begun,
                source,
                target,
                kind,
                text,
                fold=one.id,
                parent_id=span.parent_id,
            )
        )
        self._bar(target, span.begun, one.ended, kind, f"{one.id}-fold")

    def _step(
        self,
        span: Span,
        at: int,
        source: Lifeline,
        target: Lifeline,
        kind: str,
        text: str,
        *,
        suffix: str = "",
        failed: bool = False,
        is_reply: bool = False,
        ranks: int = 1,
    ) -> None:
        id_ = f"{span.span_id}{suffix}"
        self._out.steps.append(
            Step(
                id_, span.span_id, at, source, target, kind, text,
                failed=failed, is_reply=is_reply, parent_id=span.parent_id, ranks=ranks,
            )
        )  # fmt: skip

    def _bar(
        self,
        lifeline: Lifeline,
        begun: int,
        ended: int,
        kind: str,
        step_id: str = "",
        *,
        failed: bool = False,
        is_waiting: bool = False,
    ) -> None:
        begun = max(begun, self._begun)
        self._out.bars.append(Bar(lifeline, begun, max(begun, ended), kind, step_id, failed, is_waiting))

    def _lifelines(self) -> list[Lifeline]:
        """All lifelines in the order in which the story reaches them; a database beside the first process that uses it."""
        known: dict[Lifeline, None] = {}
        for step in self._out.steps:
            known.setdefault(step.source)
            known.setdefault(step.target)
        for lifeline in self._out.used():
            known.setdefault(lifeline)
        return list(known)


def _times(one: Fold) -> str:
    return f"{one.count:,} times {one.what}" if one.what == one.first.name else f"{one.count:,} {one.what}"


def _read_at(spans: Iterable[Span]) -> dict[str, int]:
    """When each record was first read, by the id of the span that sent it."""
    found: dict[str, int] = {}
    for span in spans:
        if span.kind == "CONSUMER":
            for link in span.links:
                found[link.span_id] = min(span.begun, found.get(link.span_id, span.begun))
    return found


def _errors(lines: Iterable[Line]) -> dict[tuple[str, int], str]:
    """The errors that the logs tell, by the id of the event and the number of the attempt."""
    found: dict[tuple[str, int], str] = {}
    for line in lines:
        fields = line.fields if line.level in {"warning", "error", "critical"} else {}
        attempt = _int(fields.get("attempt") or fields.get("attempts"))
        raised = fields.get("exception")
        if attempt and isinstance(raised, list) and raised and isinstance(raised[0], dict):
            text = f"{raised[0].get('type')}: {raised[0].get('message')}"
            found[str(fields.get("event_id")), attempt] = _one_line(text)
    return found


def _databases(spans: Iterable[Span]) -> dict[str, str]:
    return {span.service: _database(span).title for span in spans if is_sql(span)}


def _process(span: Span) -> Lifeline:
    return Lifeline("process", span.process)


def _database(span: Span) -> Lifeline:
    return Lifeline(
        "database", str(span.attributes.get("db.namespace") or span.attributes.get("db.system.name") or "database")
    )


def _topic(span: Span) -> Lifeline:
    return Lifeline("topic", str(span.attributes.get("messaging.destination.name") or "topic"))


def _is_dead_letter_topic(lifeline: Lifeline) -> bool:
    return lifeline.title.endswith(".dlq")


def _is_placed(span: Span) -> bool:
    return "messaging.destination.partition.id" in span.attributes


def _delivery(span: Span) -> tuple[str, str]:
    """The attempts of one delivery of an event to a group have the same one."""
    values = span.attributes
    place = [
        values.get(f"messaging.{name}") for name in ("destination.name", "destination.partition.id", "kafka.offset")
    ]
    return str(values.get("messaging.consumer.group.name")), "/".join(map(str, place))


def _what_follows(span: Span) -> list[Happening]:
    return [one for one in span.happenings if one.name in AFTER_FAILURE]


def _exception(happenings: Iterable[Happening]) -> str:
    for one in happenings:
        if one.name == "exception":
            kind = str(one.attributes.get("exception.type") or "error").rpartition(".")[2]
            return _one_line(f"{kind}: {one.attributes.get('exception.message') or ''}")
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:160].removesuffix(":")


def _int(value: object) -> int:
    return otlp.number(value) or 0


def _seconds(value: object) -> float | None:
    """A duration in an attribute; None if there is none, or it is nonsense."""
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e9 else None
