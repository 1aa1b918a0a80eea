"""`GET /staff/story`: what this service knows about events, keys, requests and traces. `manage.py story` shows the same."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from chassis.staff.access import StaffView
from chassis.staff.parameters import IdsField, Parameters
from chassis.story import local
from chassis.story.facts import Question, uuids


class StoryParameters(Parameters):
    """What to search for. `ids` may be of any kind; `topics` also reads this service's topics, which takes longer."""

    ids = IdsField(required=False)
    keys = IdsField(required=False)
    request_ids = IdsField(required=False)
    trace_ids = IdsField(required=False)
    event_ids = IdsField(required=False)
    since = serializers.DateTimeField(required=False)
    topics = serializers.BooleanField(default=False)

    def to_question(self) -> Question:
        """The question. Raises ValidationError if there is no id in it."""
        given: dict[str, Any] = self.validated_data
        none: frozenset[str] = frozenset()
        ids = given.get("ids", none)
        named = {name: given.get(name, none) for name in ("request_ids", "keys", "event_ids")}
        question = Question(
            ids=ids | {str(one) for one in uuids(ids)} | given.get("trace_ids", none),
            since=given.get("since"),
            topics=given["topics"],
            **named,
        )
        if not (question.ids or any(named.values())):
            raise ValidationError({"ids": ["Give at least one id, key, request id, trace id or event id."]})
        return question


class StoryView(StaffView):
    """The facts about a story."""

    permissions = {"GET": ("messaging.view_story",)}

    def get(self, request: Request) -> Response:
        """The facts: rows of the service's state, of the outbox, of the inbox, and records on its topics."""
        parameters = StoryParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        return Response(local.answer(parameters.to_question()).model_dump(mode="json"))
