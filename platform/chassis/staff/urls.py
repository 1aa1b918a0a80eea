"""The URLs of the staff API."""

from django.urls import path

from chassis.staff.deadletters import DeadLettersView, DeadLetterView
from chassis.staff.decisions import DecideView, EditView, ParkedView
from chassis.staff.inbox import InboxView
from chassis.staff.information import InformationView, SettingsView
from chassis.staff.outbox import OutboxRowView, OutboxView
from chassis.staff.story import StoryView

urlpatterns = [
    path("staff/info", InformationView.as_view()),
    path("staff/settings", SettingsView.as_view()),
    path("staff/story", StoryView.as_view()),
    path("staff/outbox", OutboxView.as_view()),
    path("staff/outbox/<int:position>", OutboxRowView.as_view()),
    path("staff/outbox/retry", ParkedView.as_view(action="retry")),
    path("staff/outbox/discard", ParkedView.as_view(action="discard")),
    path("staff/inbox", InboxView.as_view()),
    path("staff/dead-letters", DeadLettersView.as_view()),
    path("staff/dead-letters/redrive", DecideView.as_view(action="redrive")),
    path("staff/dead-letters/discard", DecideView.as_view(action="discard")),
    path("staff/dead-letters/<str:letter_id>", DeadLetterView.as_view()),
    path("staff/dead-letters/<str:letter_id>/edit", EditView.as_view()),
]
