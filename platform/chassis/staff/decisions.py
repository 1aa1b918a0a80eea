"""Decisions of staff about dead letters and parked rows, through the same use cases as the commands and the admin.

A run over many dead letters is streamed: one JSON object per line, every half second, and a last one when it has finished. It
ends when the client closes the connection. Whatever ends it, each dead letter is resolved once or not at all, and another run
continues with the rest.
"""

import contextvars
import re
import threading
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import structlog
from django.conf import settings
from django.http import Http404, StreamingHttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from chassis import json
from chassis.deadletters import edit, redrive
from chassis.deadletters.store import Action, NoTopic, Wanted, sources
from chassis.events.envelope import Unreadable
from chassis.http.errors import Conflict, Unprocessable
from chassis.http.fields import IntegerField, TextField
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.outbox import parked
from chassis.runtime.failures import DependencyDown
from chassis.staff.access import StaffView, who
from chassis.staff.deadletters import GROUP, find, kafka, look, member
from chassis.staff.parameters import Parameters
from chassis.story.facts import SANE

log = structlog.get_logger(__name__)

ACTIONS: dict[str, Action] = {"redrive": "redriven", "discard": "discarded"}

MOST = 1_000
"""Maximum number of ids or positions in a request; a group may have any number of members."""
SHOWN = 500
"""Maximum number of dead letters in a preview."""
TICK_SECONDS = 0.5
SILENCE_SECONDS = 20.0

_running = threading.Lock()
"""Held while a run of this process lasts. Runs of several processes take turns: see redrive.py."""


class Decision(Parameters):
    """Which dead letters, why, and how fast."""

    ids = serializers.ListField(
        child=serializers.RegexField(rf"^{SANE.pattern}\Z"), min_length=1, max_length=MOST, required=False
    )
    group = serializers.RegexField(GROUP, required=False)
    why = TextField(max_length=500, required=False, allow_blank=True, default="")
    rate = serializers.FloatField(min_value=0.01, max_value=100_000, required=False)
    limit = IntegerField(min_value=1, max_value=10_000_000, required=False)
    force = serializers.BooleanField(default=False)
    dry_run = serializers.BooleanField(default=False)
    up_to = serializers.DictField(
        child=serializers.DictField(child=IntegerField(min_value=0, max_value=2**63 - 1)), required=False
    )
    """The `up_to` of a preview, so that what was dead-lettered after it is left as it is: topic, partition, offset."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Require either ids or a group."""
        if ("ids" in attrs) == ("group" in attrs):
            raise serializers.ValidationError("Give either ids or a group.")
        if not all(
            re.fullmatch(r"\d{1,10}", one, re.ASCII) for ends in attrs.get("up_to", {}).values() for one in ends
        ):
            raise serializers.ValidationError({"up_to": "Give offsets by topic and number of the partition."})
        return attrs

    def wanted(self) -> Wanted:
        """The filter."""
        given = self.validated_data
        group = given.get("group")
        ends = {(topic, int(one)): end for topic, ends in given.get("up_to", {}).items() for one, end in ends.items()}
        return Wanted(
            ids=frozenset(given.get("ids", ())),
            causes=frozenset([group] if group else ()),
            ends=ends if "up_to" in given else None,
        )


class Edit(Parameters):
    """Another payload for one dead letter, and why."""

    payload = serializers.CharField(trim_whitespace=False, allow_blank=True)
    why = TextField(max_length=500)
    force = serializers.BooleanField(default=False)
    dry_run = serializers.BooleanField(default=False)


class Positions(Parameters):
    """Which parked rows, and why."""

    positions = serializers.ListField(
        child=IntegerField(min_value=0, max_value=2**63 - 1), min_length=1, max_length=MOST
    )
    why = TextField(max_length=500, required=False, allow_blank=True, default="")


class DecideView(StaffView):
    """Redrive or discard dead letters: `action` is one of ACTIONS."""

    action = ""

    def required_permissions(self, request: Request) -> tuple[str, ...]:
        """To see dead letters, and to decide like this."""
        return ("messaging.view_deadletter", f"messaging.{self.action}_deadletter")

    def post(self, request: Request) -> Response | StreamingHttpResponse:
        """Decide, or with `dry_run` only list what would be decided."""
        decision = _body(Decision, request)
        given, wanted = decision.validated_data, decision.wanted()
        if not sources():
            raise Http404
        if given["dry_run"]:
            return Response(self._preview(given, wanted))
        stop = threading.Event()
        run = redrive.Run(
            action=ACTIONS[self.action], wanted=wanted, by=who(request), why=given["why"], rate=given.get("rate"),
            limit=given.get("limit"), force=given["force"], stop=stop.is_set,
            patience=Patience(SILENCE_SECONDS, stopping=stop.is_set),
        )  # fmt: skip
        return StreamingHttpResponse(_start(run, stop, _count(wanted, given)), content_type="application/x-ndjson")

    def _preview(self, given: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
        shown: list[dict[str, Any]] = []
        forgotten: list[str] = []
        count = 0
        with kafka():
            store = look()
            for letter in islice(store.unresolved(wanted), given.get("limit")):
                if self.action == "redrive" and not given["force"] and redrive.is_forgotten(letter):
                    forgotten.append(letter.id)
                    continue
                count += 1
                if count <= SHOWN:
                    shown.append(member(letter, None))
        up_to: dict[str, dict[str, int]] = {}
        for (topic, partition), end in store.ends.items():
            up_to.setdefault(topic, {})[str(partition)] = end
        return {"would": self.action, "count": count, "results": shown, "forgotten": forgotten[:MOST], "up_to": up_to}


class EditView(StaffView):
    """Redrive one dead letter with another payload."""

    permissions = {
        "POST": ("messaging.view_deadletter", "messaging.redrive_deadletter", "messaging.edit_deadletter"),
    }

    def post(self, request: Request, letter_id: str) -> Response:
        """Redrive it, if the service can read the payload. The dead letter keeps the original, and states who and why."""
        given = _body(Edit, request).validated_data
        letter, resolution = find(letter_id)
        if resolution is not None:
            raise Conflict(f"It was {resolution.action} by {resolution.by} at {resolution.at}.")
        payload = given["payload"].encode()
        try:
            edit.check(letter, payload)
        except Unreadable as error:
            raise Unprocessable(f"{settings.SERVICE_NAME} could not read it: {error}") from None
        if given["dry_run"]:
            return Response({"would": "redrive", "results": [member(letter, None)]})
        with kafka(), _alone():
            result = redrive.Run(
                action="redriven", wanted=Wanted(ids=frozenset([letter.id])), by=who(request), why=given["why"],
                force=given["force"], payload=payload, patience=Patience(SILENCE_SECONDS, SILENCE_SECONDS),
            ).run()  # fmt: skip
        return Response(_outcome(result))


class ParkedView(StaffView):
    """Retry or discard parked rows of the outbox."""

    action = ""

    def required_permissions(self, request: Request) -> tuple[str, ...]:
        """To see outbox rows, and to decide like this."""
        return ("messaging.view_outboxevent", f"messaging.{self.action}_outboxevent")

    def post(self, request: Request) -> Response:
        """Decide. Rows that are not parked, or do not exist, are named."""
        given = _body(Positions, request).validated_data
        if settings.SERVICE_DATABASE is None:
            raise Http404
        decide = parked.retry if self.action == "retry" else parked.discard
        done = decide(given["positions"], by=who(request), why=given["why"])
        return Response({"done": sorted(done), "not_parked": sorted(set(given["positions"]) - set(done))})


def _body(kind: type[Parameters], request: Request) -> Any:
    body = kind(data=request.data)
    body.is_valid(raise_exception=True)
    return body


def _count(wanted: Wanted, given: Mapping[str, Any]) -> int:
    """How many dead letters the run is about. Raises Unavailable if Kafka does not respond."""
    with kafka():
        return sum(1 for _ in islice(look().unresolved(wanted), given.get("limit")))


class _Busy(Conflict):
    default_detail = "Dead letters are being redriven or discarded by this process; try again afterwards."


class _alone:  # noqa: N801  a context manager
    """Hold `_running` for the body. Raises Conflict."""

    def __enter__(self) -> None:
        if not _running.acquire(blocking=False):
            raise _Busy

    def __exit__(self, *error: object) -> None:
        _running.release()


def _start(run: redrive.Run, stop: threading.Event, total: int) -> "_Progress":
    """Run in a thread, so that the client hears from it. Raises Conflict."""
    if not _running.acquire(blocking=False):
        raise _Busy
    return _Progress(run, stop, total)


class _Progress:
    """The lines about a run. The thread releases `_running` when the run has ended."""

    def __init__(self, run: redrive.Run, stop: threading.Event, total: int) -> None:
        self._run, self._stop, self._total = run, stop, total
        self._ended = threading.Event()
        self._error = ""
        context = contextvars.copy_context()  # the request id, for the log
        threading.Thread(target=context.run, args=(self._work,), name="staff-decision", daemon=True).start()

    def __iter__(self) -> Iterator[bytes]:
        while not self._ended.is_set():
            yield self._line({"done": len(self._run.result.done), "total": self._total})
            self._ended.wait(TICK_SECONDS)
        error = {"error": self._error} if self._error else {}
        yield self._line({**_outcome(self._run.result), "total": self._total, **error, "finished": True})

    def close(self) -> None:
        """Django's hook: the response was sent, or the client is gone."""
        self._stop.set()

    @staticmethod
    def _line(content: dict[str, Any]) -> bytes:
        return json.dumps(content) + b"\n"

    def _work(self) -> None:
        try:
            self._run.run()
        except (DependencyDown, NoTopic) as error:
            self._error = str(error)
        except Fenced:
            self._error = "other runs keep taking over; repeat this to continue with the rest"
        except Exception:
            log.exception("a run over dead letters failed")
            self._error = "an internal error; the request id identifies it in the logs"
        finally:
            _running.release()
            self._ended.set()


def _outcome(result: redrive.Result) -> dict[str, Any]:
    return {
        "done": len(result.done),
        "ids": result.done[:MOST],
        "refused": dict(islice(result.refused.items(), MOST)),
        "forgotten": result.forgotten[:MOST],
        "stopped": result.stopped,
    }
