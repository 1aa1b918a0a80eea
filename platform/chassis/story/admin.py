"""The story of a request, a user or an order in Django's admin, as `manage.py story` of this service shows it."""

import json
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path

from chassis.admin.options import ReadOnlyAdmin
from chassis.messaging.models import Story
from chassis.story import local, result
from chassis.story.facts import BadId, Facts, Question

TOPICS_FAIL = "the topics cannot be read"


@admin.register(Story)
class StoryAdmin(ReadOnlyAdmin):
    """A page with a field for an id. Nothing is stored."""

    def get_urls(self) -> list[Any]:
        """The page, instead of a model's usual pages."""
        view = self.admin_site.admin_view
        return [path("", view(self.changelist_view), name="messaging_story_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The story of the id in `?id=`: its steps, where it is now, and why."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        given = request.GET.get("id", "").strip()
        asked = _Asked()
        story: dict[str, Any] = {}
        error = ""
        if given:
            try:
                story = json.loads(result.find(given, asked).to_json())
            except (BadId, result.UnknownStory) as unknown:
                error = str(unknown)
        may = {name: request.user.has_perm(f"messaging.view_{name}") for name in ("outboxevent", "deadletter")}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Story",
            "given": given,
            "story": story,
            "error": error,
            "rows": asked.facts.outbox if asked.facts and may["outboxevent"] else (),
            "letters": _letters(asked.facts) if asked.facts and may["deadletter"] else (),
        }
        return TemplateResponse(request, "admin/messaging/story/page.html", context)


class _Asked:
    """Asks this service. If Kafka does not respond once, the topics are not read again: a person is waiting."""

    def __init__(self) -> None:
        self.facts: Facts | None = None
        self._problems: tuple[str, ...] = ()

    def __call__(self, question: Question) -> list[Facts]:
        topics = question.topics and not self._problems
        facts = local.answer(question.model_copy(update={"topics": topics}))
        if topics:
            self._problems = tuple(problem for problem in facts.problems if problem.startswith(TOPICS_FAIL))
        elif question.topics:
            facts = facts.model_copy(update={"problems": (*facts.problems, *self._problems)})
        self.facts = facts
        return [facts]


def _letters(facts: Facts) -> list[str]:
    """The ids of this service's dead letters in the story."""
    found = [record.letter for record in facts.records if record.letter] + [
        row.letter for row in facts.outbox if row.letter
    ]
    return sorted({letter.id for letter in found if letter.group == facts.service and letter.id})
