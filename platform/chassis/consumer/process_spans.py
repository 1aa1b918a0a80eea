"""The CONSUMER span of each attempt to process an event, in the event's trace.

The span of an event that was processed ends with the transaction. That of a failed attempt stays open until it is decided
what follows (`triage.py`): a retry is noted in the span, and only the attempt that ends in a dead letter is an error. The
spans of a batch that was rolled back to be divided are dropped, since they are no attempts of their events.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from django.conf import settings
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from chassis.deadletters.record import REDRIVEN, FailedRecord
from chassis.events.envelope import trace_of
from chassis.events.registry import Received
from chassis.kafka import names, send_spans
from chassis.kafka.records import LONGEST_LOGGED, Record
from chassis.observability import sql_spans, tracing
from chassis.observability.trace_context import TraceContext
from chassis.runtime.failures import HandlerFailed

Events = list[tuple[Record, Received[Any]]]


@contextmanager
def traced(readable: Sequence[tuple[Record, Received[Any]]]) -> Iterator[Events]:
    """Start a span for each event, in the event's trace, for as long as the body runs. One that is not recorded is only an id.

    The statements of the body belong to the span of a single event; those of several to a span of the batch, which has a trace
    of its own and is linked to each of its events, in both directions.
    """
    received, recorded = _begin_each(readable)
    batch = _begin_batch(recorded, len(received)) if recorded and len(received) > 1 else None
    with ExitStack() as stack:
        if batch is not None:
            _attach(stack, trace.set_span_in_context(batch, Context()))
            stack.callback(batch.end)
        elif len(received) == 1:
            _attach(stack, received[0][1].context)
        if recorded and settings.SERVICE_DATABASE:
            stack.enter_context(sql_spans.recorded(settings.SERVICE_DATABASE))
        try:
            yield received
        except BaseException as error:
            if batch is not None:
                batch.add_event("rolled back", {"error.type": _type(error)})
            elif recorded:
                readable[0][0].attempt_span = recorded[0]
            raise
    for span in recorded:
        span.end()


def _begin_each(readable: Sequence[tuple[Record, Received[Any]]]) -> tuple[Events, list[Span]]:
    """Start the spans. Returns the events, each within its span, and those spans that are recorded."""
    received: Events = []
    recorded: list[Span] = []
    for record, event in readable:
        if (position := tracing.unrecorded_child(event.trace)) is not None:
            received.append((record, event.within(position)))
            continue
        span, context = _begin(record, event.context, event)
        received.append((record, event.within(TraceContext.of(span.get_span_context()), context)))
        if span.is_recording():
            recorded.append(span)
    return received, recorded


def _attach(stack: ExitStack, context: Context) -> None:
    stack.callback(detach, attach(context))


def _begin(record: Record, parent: Context, event: Received[Any] | None = None) -> tuple[Span, Context]:
    links: list[Link] = []
    if tracing.is_sampled(parent):
        above = trace.get_current_span(parent).get_span_context()
        if letter_id := record.header(REDRIVEN):
            links.append(send_spans.link_to_redrive(letter_id, above))
        else:
            links.append(send_spans.link_to(record.topic, record.header("ce_id") or "", above))
    span, context = tracing.begin(f"process {record.topic}", parent, SpanKind.CONSUMER, links)
    if span.is_recording():
        span.set_attributes(_attributes(record, event))
    return span, context


def _begin_batch(spans: Sequence[Span], size: int) -> Span:
    links = [Link(span.get_span_context()) for span in spans]
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.consumer.group.name": names.group(),
        "messaging.batch.message_count": size,
    }
    with tracing.sampling_decided():
        batch = tracing.tracer(__name__).start_span(
            "process batch", context=Context(), kind=SpanKind.CONSUMER, links=links, attributes=attributes
        )
    for span in spans:
        span.add_link(batch.get_span_context())
    return batch


def _attributes(record: Record, event: Received[Any] | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
        "messaging.consumer.group.name": names.group(),
        "event.attempt": record.attempts + 1,
    }
    if event is not None:
        attributes["messaging.kafka.message.key"] = event.key[:LONGEST_LOGGED]
        attributes["messaging.message.id"] = event.id[:LONGEST_LOGGED]
        attributes["request.id"] = event.request_id
    if record.timestamp_ms >= 0 and not record.attempts:
        attributes["kafka.wait_seconds"] = round(max(0.0, time.time() - record.timestamp_ms / 1000), 6)
    if letter_id := record.header(REDRIVEN):
        attributes["deadletter.id"] = letter_id[:LONGEST_LOGGED]
    return attributes


def duplicate(event: Received[Any]) -> None:
    """Note that this event was processed before, and is skipped."""
    if event.recorded is not None:
        trace.get_current_span(event.recorded).set_attribute("event.duplicate", True)


# --- after a failed attempt ---


def not_finished(record: Record, what: str, error: BaseException, **details: Any) -> None:
    """End the span of a failed attempt, and note what follows it: `retry`, `hold`, `set aside` or `topic stopped`."""
    span, record.attempt_span = record.attempt_span, None
    if span is not None:
        span.set_attribute("error.type", _type(error))
        span.add_event(what, details)
        span.end()


def dead_lettered(failed: FailedRecord) -> None:
    """End the span of the last attempt as an error, with the exception. An unreadable record has a span only for this."""
    record = failed.record
    span, record.attempt_span = record.attempt_span, None
    if span is None:
        if not tracing.is_recording():
            return
        span, _ = _begin(record, tracing.context_of(trace_of(record)))
    if not span.is_recording():
        return
    span.record_exception(failed.error)
    span.set_attributes({"error.type": _type(failed.error), "event.attempt": failed.attempts})
    details: dict[str, str | int] = {
        "deadletter.id": failed.id,
        "deadletter.reason": failed.reason,
        "deadletter.attempts": failed.attempts,
        "messaging.destination.name": names.dead_letter_topic(record.topic),
    }
    span.add_event("dead letter", details)
    span.set_status(Status(StatusCode.ERROR, failed.reason))
    span.end()


def _type(error: BaseException) -> str:
    return type(error.error if isinstance(error, HandlerFailed) else error).__name__
