"""The URLs of the staff API."""

from django.urls import path

from chassis.staff.inbox import InboxView
from chassis.staff.information import InformationView, SettingsView
from chassis.staff.outbox import OutboxRowView, OutboxView
from chassis.staff.republish import RepublishView
from chassis.staff.story import StoryView

urlpatterns = [
    path("staff/info", InformationView.as_view(), name="staff-info"),
    path("staff/settings", SettingsView.as_view(), name="staff-settings"),
    path("staff/story", StoryView.as_view(), name="staff-story"),
    path("staff/outbox", OutboxView.as_view(), name="staff-outbox"),
    path("staff/outbox/<int:position>", OutboxRowView.as_view(), name="staff-outbox-row"),
    path("staff/outbox/republish", RepublishView.as_view()),
    path("staff/inbox", InboxView.as_view(), name="staff-inbox"),
]
