"""The progress of a run."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from console import htmx
from console.pages.deadletters.runs import RUNS


@require_safe
def show(request: HttpRequest, run_id: str) -> HttpResponse:
    """How far the run has come."""
    name = "console/deadletters/progress.html" if htmx.wants_part(request) else "console/deadletters/run.html"
    return render(request, name, {"run": RUNS.get(run_id), "run_id": run_id})


@require_POST
def stop(request: HttpRequest, run_id: str) -> HttpResponse:
    """End the run after the transaction that is open now."""
    run = RUNS.get(run_id)
    run.stopping.set()
    if not run.is_over:
        run.state = "stopping"
    return HttpResponseRedirect(reverse("deadletters:run", args=[run_id]))
