"""`POST /staff/outbox/republish`: send an event again that was sent before."""

from typing import Any

from django.conf import settings
from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from chassis.http.errors import Conflict
from chassis.http.fields import TextField
from chassis.outbox.resend import NotResent, resend
from chassis.staff.access import StaffView, who
from chassis.staff.parameters import Parameters


class Republication(Parameters):
    """Which event, and why."""

    event_id = serializers.UUIDField()
    why = TextField(max_length=500, required=False, allow_blank=True, default="")


class RepublishView(StaffView):
    """Sends the row of an event again. Whether that is harmless, the caller must know: groups with an inbox recognise it."""

    permissions = {"POST": ("messaging.view_outboxevent", "messaging.retry_outboxevent")}

    def post(self, request: Request) -> Response:
        """Send it again; 409 if there is no row that was sent."""
        body = Republication(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = body.validated_data
        if settings.SERVICE_DATABASE is None:
            raise Http404
        try:
            resend(str(given["event_id"]), by=who(request), why=given["why"])
        except NotResent as error:
            raise Conflict(f"Not published again: {error}.") from None
        return Response({"done": True})
