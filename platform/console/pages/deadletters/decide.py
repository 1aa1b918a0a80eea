"""Redriving and discarding: first a preview of what would happen, then, once confirmed, a run whose progress is shown."""

import json
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from console import operators, payloads, system
from console.pages.deadletters import groups
from console.pages.deadletters.choices import CHOICES, Choice
from console.pages.deadletters.runs import RUNS, Order
from console.sources.staff import Refused

ACTIONS = ("redrive", "discard")


class DecisionForm(forms.Form):
    """What to do with which dead letters."""

    action = forms.ChoiceField(choices=[(one, one) for one in ACTIONS])
    group = forms.CharField(required=False, max_length=64)
    why = forms.CharField(required=False, max_length=500)
    rate = forms.FloatField(required=False, min_value=0.1, max_value=10_000)
    limit = forms.IntegerField(required=False, min_value=1, max_value=1_000_000)
    force = forms.BooleanField(required=False)
    operator = forms.CharField(required=False, max_length=operators.LONGEST)
    up_to = forms.JSONField(required=False)
    """That of the preview: a group is decided about as it was shown, without what was dead-lettered later."""
    previewed = forms.IntegerField(required=False, min_value=0)
    """How many dead letters the preview was about."""


@require_POST
def decide(request: HttpRequest, service: str) -> HttpResponse:
    """Lead to the preview; or with `confirmed`, to the run."""
    form = DecisionForm(request.POST)
    ids = request.POST.getlist("id")[: groups.SHOWN]
    if not form.is_valid() or not (ids or form.cleaned_data["group"]):
        problem = "No dead letter was selected." if form.is_valid() else _problems(form)
        return _render(request, {"service": service, "problem": problem}, status=400)
    return _decide(request, service, form.cleaned_data, ids)


@require_safe
def preview(request: HttpRequest, choice_id: str) -> HttpResponse:
    """What would happen to the chosen dead letters, as they are now."""
    choice = CHOICES.get(choice_id)
    return _preview(request, choice.service, dict(choice.given), list(choice.ids))


def _decide(request: HttpRequest, service: str, given: dict[str, Any], ids: list[str]) -> HttpResponse:
    if "confirmed" not in request.POST:
        choice_id = CHOICES.keep(Choice(service, given, tuple(ids)))
        return HttpResponseRedirect(reverse("deadletters:preview", args=[choice_id]))
    by = operators.cleaned(given["operator"]) or operators.named(request)
    if not by:
        return _preview(request, service, given, ids, problem="Say who you are: the service records it.")
    if not (ids or isinstance(given["up_to"], dict)):
        return _preview(request, service, given, ids, problem="This is the preview: confirm it below.")
    body = _body(given, ids) | _bound(given)
    order = Order(service=service, action=given["action"], body=body, by=by, expected=_expected(given, ids))
    response = HttpResponseRedirect(reverse("deadletters:run", args=[RUNS.start(system.current().staff, order)]))
    operators.remember(response, by)
    return response


def _preview(
    request: HttpRequest, service: str, given: dict[str, Any], ids: list[str], *, problem: str = ""
) -> HttpResponse:
    context = {"service": service, "given": given, "ids": ids, "operator": operators.named(request), "problem": problem}
    body = {**_body(given, ids), "dry_run": True}
    try:
        found = system.current().staff.post(service, f"dead-letters/{given['action']}", body)
    except Refused as error:
        return _render(request, {**context, "problem": str(error)}, status=409)
    shown = {
        "preview": payloads.visible_answer(found),
        "up_to": json.dumps(found.get("up_to")),
        "previewed": _number(found),
    }
    return _render(request, {**context, **shown}, status=400 if problem else 200)


def _body(given: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    body: dict[str, Any] = {"ids": ids} if ids else {"group": given["group"]}
    body |= {name: given[name] for name in ("why", "rate", "limit") if given[name]}
    if given["force"] and given["action"] == "redrive":
        body["force"] = True
    return body


def _bound(given: dict[str, Any]) -> dict[str, Any]:
    return {"up_to": given["up_to"]} if isinstance(given["up_to"], dict) else {}


def _expected(given: dict[str, Any], ids: list[str]) -> int:
    """How many dead letters are decided about, if no one else has decided about them since the preview."""
    previewed = len(ids) if given["previewed"] is None else given["previewed"]
    return min(previewed, given["limit"] or previewed)


def _number(preview: dict[str, Any]) -> int:
    """How many dead letters a preview is about."""
    return int(preview["count"]) + len(preview["forgotten"])


def _problems(form: forms.Form) -> str:
    return "; ".join(f"{name}: {' '.join(map(str, found))}" for name, found in form.errors.items())


def _render(request: HttpRequest, context: dict[str, Any], status: int) -> HttpResponse:
    return render(request, "console/deadletters/decide.html", context, status=status)
