"""Editing the payload of a dead letter and redriving the result: the service checks it, and keeps both."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST

from console import operators, payloads, system
from console.pages.deadletters.groups import path_of
from console.pages.deadletters.letter import read
from console.sources.staff import Refused

LONGEST = 1_048_576


class EditForm(forms.Form):
    """The new payload, and why it is another one."""

    payload = forms.CharField(max_length=LONGEST, strip=False)
    why = forms.CharField(max_length=500)
    force = forms.BooleanField(required=False)
    operator = forms.CharField(required=False, max_length=operators.LONGEST)


@require_POST
def edit(request: HttpRequest, service: str, letter_id: str) -> HttpResponse:
    """The form with the present payload, which the service logs as revealed; then the preview, and the redrive.

    The button says which: `step` is `check` or `redrive`; without it, the form is empty.
    """
    step = request.POST.get("step", "")
    context: dict[str, Any] = {
        "service": service, "letter_id": letter_id, "operator": operators.named(request), "longest": LONGEST,
    }  # fmt: skip
    if step not in {"check", "redrive"}:
        return _form(request, context, _present(request, service, letter_id))
    form = EditForm(request.POST)
    context |= {"payload": request.POST.get("payload", ""), "why": request.POST.get("why", "")}
    if not form.is_valid():
        context["problem"] = "; ".join(f"{name}: {' '.join(map(str, found))}" for name, found in form.errors.items())
        return _form(request, context, status=400)
    by = operators.cleaned(form.cleaned_data["operator"]) or operators.named(request)
    if not by:
        return _form(request, {**context, "problem": "Say who you are: the service records it."}, status=400)
    # Browsers send line ends as CR LF.
    new = form.cleaned_data["payload"].replace("\r\n", "\n")
    body = {"payload": new, "why": form.cleaned_data["why"], "dry_run": step == "check"}
    if form.cleaned_data["force"]:
        body["force"] = True
    return _send(request, context, body, by)


def _send(request: HttpRequest, context: dict[str, Any], body: dict[str, Any], by: str) -> HttpResponse:
    service, letter_id = context["service"], context["letter_id"]
    try:
        answer = system.current().staff.post(service, f"dead-letters/{path_of(letter_id)}/edit", body, operator=by)
    except Refused as error:
        context |= {"problem": str(error), "operator": by}
        response = _form(request, context, status=422 if error.status == 422 else 409)
        operators.remember(response, by)
        return response
    if body["dry_run"]:
        response = _form(request, {**context, "operator": by, "checked": True})
    elif answer.get("done"):
        response = HttpResponseRedirect(reverse("deadletters:letter", args=[service, letter_id]))
    else:
        refused = "; ".join(map(str, dict(answer.get("refused") or {}).values()))
        reason = refused or "it is older than the inbox remembers, so it may have been processed"
        context |= {"problem": f"{service} has not redriven it: {reason}.", "forgotten": not refused, "checked": True}
        return _form(request, context, status=409)
    operators.remember(response, by)
    return response


def _present(request: HttpRequest, service: str, letter_id: str) -> dict[str, Any]:
    letter = read(service, letter_id, reveal_to=operators.name_of(request))
    payload = letter["payload"]
    shown = payloads.shown_answer(payload)
    editable = payload["encoding"] in {"json", "text"} and not payload["truncated"]
    # What is not printable cannot be edited; the JSON is indented for people.
    return {
        "payload": shown.text
        if editable and shown.kind == "json" and not shown.cut
        else payload["content"]
        if editable
        else ""
    }


def _form(
    request: HttpRequest, context: dict[str, Any], more: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    return render(request, "console/deadletters/edit.html", {**context, **(more or {})}, status=status)
