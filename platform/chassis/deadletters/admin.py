"""Dead letters in Django's admin: read from Kafka, and redriven or discarded by the same functions as the command uses."""

from typing import Any

import structlog
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from chassis.admin.options import ReadOnlyAdmin
from chassis.deadletters import redrive, text
from chassis.deadletters.store import REASONS, Action, NoTopic, Store, StoredDeadLetter, Wanted, sources
from chassis.kafka.errors import Fenced
from chassis.kafka.patience import Patience
from chassis.messaging.models import DeadLetter
from chassis.runtime.failures import DependencyDown

log = structlog.get_logger(__name__)

NEWEST = 1_000
"""Maximum number of records to read from each partition of a dead-letter topic; the command reads all."""

SHOWN = 500
LOOK_SECONDS = 2.0
DECIDE_SECONDS = 20.0

ACTIONS: dict[str, Action] = {"redrive": "redriven", "discard": "discarded"}

QUESTIONS = {
    "redrive": "These are sent to their original topics again, after later events, and are processed again:",
    "discard": "These will not be processed, and are removed from the list:",
}


class FilterForm(forms.Form):
    """The filters of the list."""

    topic = forms.ChoiceField(required=False)
    reason = forms.ChoiceField(required=False, choices=[("", "any reason"), *((r, r) for r in REASONS)])
    key = forms.CharField(required=False)
    id = forms.CharField(required=False)
    since = forms.DateTimeField(required=False, widget=forms.DateTimeInput(attrs={"placeholder": "2026-11-23 17:00"}))
    until = forms.DateTimeField(required=False, widget=forms.DateTimeInput(attrs={"placeholder": "UTC"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        topics: Any = self.fields["topic"]
        topics.choices = [("", "any topic"), *((topic, topic) for topic in sorted(sources().values()))]

    def wanted(self) -> Wanted:
        """The filter that the form describes."""

        def one(name: str) -> frozenset[str]:
            value = self.cleaned_data[name]
            return frozenset([value] if value else ())

        return Wanted(
            ids=one("id"),
            topics=one("topic"),
            keys=one("key"),
            reasons=one("reason"),
            since=self.cleaned_data["since"],
            until=self.cleaned_data["until"],
        )


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    """A list with filters, a page for each dead letter, and two buttons. Nothing is stored in the database.

    Dead letters cannot be added, changed or deleted here: consumers write them, and Kafka's retention deletes them.
    """

    def get_urls(self) -> list[Any]:
        """The list, the confirmation page, and the page of one dead letter, instead of a model's usual pages."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="messaging_deadletter_changelist"),
            path("decide/", view(self.decide_view), name="messaging_deadletter_decide"),
            path("<path:object_id>/", view(self.letter_view), name="messaging_deadletter_change"),
        ]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Only a service that consumes events has dead letters."""
        return bool(sources()) and super().has_module_permission(request)

    def _context(self, request: HttpRequest, **more: Any) -> dict[str, Any]:
        may = {action: self.may(request, action) for action in (*ACTIONS, "reveal")}
        may["story"] = request.user.has_perm("messaging.view_story")
        return {**self.admin_site.each_context(request), "opts": self.opts, "may": may, **more}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The newest unresolved dead letters, newest first. 503 if Kafka does not respond within 2 s."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = FilterForm(request.GET)
        letters: list[StoredDeadLetter] = []
        partly, down, status = False, "", 200
        if form.is_valid():
            try:
                store = Store(Patience(LOOK_SECONDS, LOOK_SECONDS), newest=NEWEST)
                letters = sorted(store.unresolved(form.wanted()), key=lambda letter: letter.at, reverse=True)
                partly = store.partly or len(letters) > SHOWN
            except (DependencyDown, NoTopic) as error:
                down, status = str(error), 503
        context = self._context(
            request, title="Dead letters", form=form, letters=letters[:SHOWN], partly=partly, down=down
        )
        return TemplateResponse(request, "admin/messaging/deadletter/list.html", context, status=status)

    def letter_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """One dead letter in full, and its resolution."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            store = Store(Patience(LOOK_SECONDS, LOOK_SECONDS), newest=NEWEST)
            resolution = store.resolutions().get(object_id)
            letter = next(store.letters(Wanted(ids=frozenset([object_id])), ()), None)
        except (DependencyDown, NoTopic) as error:
            context = self._context(request, title="Dead letter", down=str(error))
            return TemplateResponse(request, "admin/messaging/deadletter/letter.html", context, status=503)
        if letter is None:
            raise Http404("Not among the newest dead letters: `manage.py deadletters show` finds all of them.")
        reveal = self._reveals(request, letter)
        context = self._context(
            request,
            title="Dead letter",
            letter=letter,
            resolution=resolution,
            facts=letter.summary(),
            headers=text.headers(letter, reveal=reveal),
            payload=text.payload(letter, reveal=reveal),
            reveal=reveal,
        )
        return TemplateResponse(request, "admin/messaging/deadletter/letter.html", context)

    def _reveals(self, request: HttpRequest, letter: StoredDeadLetter) -> bool:
        """Whether to show personal data, which is logged."""
        reveal = "reveal" in request.GET and self.may(request, "reveal")
        if reveal:
            by = request.user.get_username()
            log.info("personal data revealed", by=by, what="dead letter", deadletter_id=letter.id)
        return reveal

    def decide_view(self, request: HttpRequest) -> HttpResponse:
        """Redrive or discard the dead letters with the posted ids, in the user's name, after a confirmation."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        action = request.POST.get("action", "")
        if action not in ACTIONS or not (self.has_view_permission(request) and self.may(request, action)):
            raise PermissionDenied
        ids = frozenset(request.POST.getlist("id")[:SHOWN])
        if not ids:
            messages.warning(request, "No dead letter was selected.")
        elif "confirmed" not in request.POST:
            return self._ask(request, action, ids)
        else:
            self._decide(request, ACTIONS[action], ids)
        return redirect("admin:messaging_deadletter_changelist")

    def _ask(self, request: HttpRequest, action: str, ids: frozenset[str]) -> HttpResponse:
        """The confirmation page."""
        try:
            store = Store(Patience(LOOK_SECONDS, LOOK_SECONDS), newest=NEWEST)
            letters = list(store.unresolved(Wanted(ids=ids)))
        except (DependencyDown, NoTopic) as error:
            messages.error(request, f"{error}. Nothing was done.")
            return redirect("admin:messaging_deadletter_changelist")
        unseen = sorted(ids - {letter.id for letter in letters})  # resolved meanwhile, or not among the newest
        context = self._context(
            request,
            title=f"{action.capitalize()} dead letters",
            question=QUESTIONS[action],
            lines=[*map(text.line, letters), *unseen],
            fields=[("action", action), *(("id", one) for one in sorted(ids))],
            back=reverse("admin:messaging_deadletter_changelist"),
        )
        return TemplateResponse(request, "admin/messaging/confirm.html", context)

    def _decide(self, request: HttpRequest, action: Action, ids: frozenset[str]) -> None:
        by = request.user.get_username()
        result = redrive.Result()
        try:
            Store(Patience(LOOK_SECONDS, LOOK_SECONDS), newest=0)  # fails early if Kafka does not respond
            patience = Patience(DECIDE_SECONDS, DECIDE_SECONDS)
            redrive.Run(action=action, wanted=Wanted(ids=ids), by=by, patience=patience, result=result).run()
        except (DependencyDown, NoTopic) as error:
            messages.error(request, f"{error}. Check the list before you repeat this.")
        except Fenced:
            messages.error(request, "Dead letters are being redriven or discarded elsewhere; try again afterwards.")
        else:
            if result.forgotten:
                messages.warning(
                    request,
                    f"{len(result.forgotten)} not {action}: they are older than INBOX_RETENTION_HOURS. Check their aggregates,"
                    " then use `manage.py deadletters redrive --force`.",
                )
            if gone := len(ids) - len(result.done) - len(result.refused) - len(result.forgotten):
                messages.warning(request, f"{gone} not {action}: they may have been resolved already.")
        if result.done:
            messages.success(request, f"{len(result.done)} {action}.")
        for letter_id, reason in result.refused.items():
            messages.error(request, f"{letter_id} was refused by the broker: {reason}")
