"""Break it: what `make chaos` does, one failure at a time, beside the map that shows the system survive."""

from typing import Any

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from console import htmx, system
from console.failures import Away, NotFound
from console.pages.map.views import context as map_context
from console.sources.control import Impossible

DURATIONS = (5, 10, 20, 60)
"""How long a target is frozen or slow, or requests are sent, in seconds: what is offered."""
ACTIONS = {"freeze": "Freeze", "slow": "Slow", "resume": "Resume", "kill": "Kill"}
LEVELS = {"running": "good", "slow": "warn"}
FAILING_TOPIC = "payment.completed"
"""The event that fails in its handler if it is about an order that does not exist; other records are unreadable."""
LONGEST = 1_000
"""Maximum number of characters of a message in the address of the page."""
SAID_SECONDS = 600
"""How long a link to the page repeats what came of an action."""
SALT = "breakit"


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    said = _said(request.GET.get("said", ""))
    more = {
        "actions": [{"name": name, "text": text} for name, text in ACTIONS.items()],
        "durations": DURATIONS,
        "records": _records(),
    }
    return render(request, "console/breakit/index.html", {**map_context(), **_states(), **more, **said})


@require_safe
def states(request: HttpRequest) -> HttpResponse:
    """The states of the targets and what was done, which replace those of the page."""
    return render(request, "console/breakit/states.html", {**_states(), "is_answer": True})


@require_POST
def act(request: HttpRequest, action: str) -> HttpResponse:
    """Freeze, slow down, resume or kill a target."""
    if action not in ACTIONS:
        raise NotFound(f"There is no action {action[:40]!r}.")
    more: dict[str, Any] = {"target": request.POST.get("target", "")}
    if action in {"freeze", "slow"}:
        more["seconds"] = _seconds(request)
    return _done(request, action, more)


@require_POST
def visit(request: HttpRequest) -> HttpResponse:
    """Let `make up` send requests to the gateway for a while."""
    return _done(request, "visit", {"seconds": _seconds(request)})


@require_POST
def poison(request: HttpRequest) -> HttpResponse:
    """Write a record that no consumer can process."""
    topic, _, flaw = request.POST.get("record", "").partition("|")
    return _done(request, "poison", {"topic": topic, "flaw": flaw})


def _seconds(request: HttpRequest) -> int:
    """The duration that was chosen; 0, which is rejected, if it is no number."""
    text = request.POST.get("seconds", "10")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else 0


def _done(request: HttpRequest, action: str, more: dict[str, Any]) -> HttpResponse:
    """What came of it; without a script, the page with it."""
    try:
        said, failed = str(system.current().control.ask(action, **more)), False
    except (Impossible, Away) as error:
        said, failed = str(error), True
    values = {"said": said[:LONGEST], "failed": failed}
    if htmx.wants_part(request):
        return render(request, "console/breakit/said.html", values)
    return redirect(
        f"{reverse('breakit:index')}?{urlencode({'said': signing.dumps(values, salt=SALT, compress=True)})}"
    )


def _said(signed: str) -> dict[str, Any]:
    """What came of an action, from the address. It is signed: a link must not make the page say anything else."""
    try:
        values: dict[str, Any] = signing.loads(signed, salt=SALT, max_age=SAID_SECONDS)
    except signing.BadSignature:
        return {}
    return values


def _states() -> dict[str, Any]:
    """The targets with their states and what was done, or the problem."""
    try:
        known = system.current().control.ask("list")
        targets = [{**one, "level": LEVELS.get(one["state"], "bad")} for one in known["targets"]]
        done = [{"what": one["what"], "ago": system.since_text(float(one["at"]))} for one in known["done"]]
    except (Impossible, Away) as error:
        return {"targets": [], "done": [], "problem": str(error)}
    return {"targets": targets, "done": done}


def _records() -> list[tuple[str, str]]:
    """The records that can be sent, with what is wrong with them."""
    topics = {event.topic for one in system.current().events.read() for event in (*one.publishes, *one.consumes)}
    unreadable = [(f"{topic}|unreadable", f"{topic}, cut off") for topic in sorted(topics)]
    failing = [(f"{topic}|failing", f"{topic}, of an order that does not exist") for topic in sorted(topics)]
    return [*unreadable, *(one for one in failing if one[0].endswith(f"{FAILING_TOPIC}|failing"))]


urlpatterns = [
    path("break", index, name="index"),
    path("break/states", states, name="states"),
    path("break/visit", visit, name="visit"),
    path("break/poison", poison, name="poison"),
    path("break/<str:action>", act, name="act"),
]
