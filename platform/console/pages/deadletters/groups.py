"""The list of groups of dead letters, and the page of each group."""

from typing import Any
from urllib.parse import quote, urlencode

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console import htmx, payloads, system
from console.failures import NotFound

REASONS = ("unreadable", "timeout", "crash", "handler")
STATES = ("unresolved", "resolved", "all")
SHOWN = 500
"""Maximum number of dead letters on the page of a group."""


class FilterForm(forms.Form):
    """The filters of the list. A topic or error type is compared with what begins with it."""

    service = forms.ChoiceField(required=False)
    topic = forms.CharField(required=False, max_length=249)
    error_type = forms.CharField(required=False, max_length=200, label="Error type")
    reason = forms.ChoiceField(required=False, choices=[("", "any"), *((one, one) for one in REASONS)])
    key = forms.CharField(required=False, max_length=1_000, strip=False)
    state = forms.ChoiceField(required=False, choices=[(one, one) for one in STATES])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        services: Any = self.fields["service"]
        services.choices = [("", "any"), *((one, one) for one in system.current().staff.services)]

    def query(self) -> dict[str, Any]:
        """The query for the services."""
        given = self.cleaned_data
        asked = {name: given[name] for name in ("reason", "key") if given[name]}
        if "key" in asked:
            asked["key"] = payloads.unescaped(asked["key"])
        return {**asked, "state": given["state"] or STATES[0], "members": 0}

    def wants(self, group: dict[str, Any]) -> bool:
        """Whether a group is listed."""
        given = self.cleaned_data
        return (
            given["service"] in {"", group["service"]}
            and str(group.get("topic", "")).startswith(given["topic"])
            and str(group.get("error_type", "")).startswith(given["error_type"])
        )


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """All groups. The page itself comes at once; reading the dead-letter topics takes the services a moment."""
    form = FilterForm(request.GET)
    is_part = htmx.wants_part(request)
    is_read = is_part or "full" in request.GET
    context: dict[str, Any] = {"form": form, "is_read": is_read}
    if is_read and form.is_valid():
        context |= _found(form)
    name = "console/deadletters/list.html" if is_part else "console/deadletters/index.html"
    return render(request, name, context, status=200 if form.is_valid() else 400)


def _found(form: FilterForm) -> dict[str, Any]:
    answers, problems = system.current().staff.everywhere("dead-letters", **form.query())
    groups = [
        {**group, "service": service}
        for service, answer in answers.items()
        for group in _groups(answer)
        if form.wants({**group, "service": service})
    ]
    groups.sort(key=lambda group: str(group.get("last_seen") or ""), reverse=True)
    return {
        "groups": groups,
        "total": sum(int(group.get("count") or 0) for group in groups),
        "partly": [service for service, answer in answers.items() if answer.get("partly")],
        "problems": problems,
        "state": form.cleaned_data["state"] or STATES[0],
        "narrowed": urlencode({name: form.cleaned_data[name] for name in ("state", "key") if form.cleaned_data[name]}),
    }


def _groups(answer: Any) -> list[dict[str, Any]]:
    found = answer.get("groups") if isinstance(answer, dict) else None
    return [payloads.visible_answer(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


@require_safe
def show(request: HttpRequest, service: str, group_id: str) -> HttpResponse:
    """One group with its newest dead letters."""
    state = request.GET.get("state", STATES[0])
    key = request.GET.get("key", "")[:1_000]
    group = group_of(service, group_id, state=state if state in STATES else STATES[0], key=key)
    context = {"service": service, "group": group, "state": state, "key": payloads.visible(key)}
    return render(request, "console/deadletters/group.html", context)


def group_of(service: str, group_id: str, *, state: str, key: str) -> dict[str, Any]:
    """A group of a service; of a key only, if one is given. Raises NotFound."""
    query: dict[str, Any] = {"group": group_id, "state": state, "members": SHOWN} | (
        {"key": payloads.unescaped(key)} if key else {}
    )
    answer = system.current().staff.get(service, "dead-letters", **query)
    if not (found := _groups(answer)):
        raise NotFound(
            f"{service} has no {'' if state == 'all' else state + ' '}dead letters of this group among its newest ones: they may"
            " have been resolved."
        )
    for member in found[0].get("members") or ():
        member["wire"] = on_the_wire(member.get("topic"))
    return {**found[0], "wire": on_the_wire(found[0].get("topic"))}


def on_the_wire(topic: Any) -> str:
    """The name of a topic at the broker; the services answer with names without the prefix."""
    return f"{settings.KAFKA_PREFIX}{topic}"


def path_of(letter_id: str) -> str:
    """A dead letter's id as a part of a path."""
    return quote(letter_id, safe="")
