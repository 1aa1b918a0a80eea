"""Stories: each request, followed through all processes, as they end; and each as a sequence diagram."""

from django.urls import path

from console.pages.stories import events, export, finding, listing, repeat, story

urlpatterns = [
    path("stories", listing.index, name="index"),
    path("stories/stream", listing.stream, name="stream"),
    path("stories/find", finding.find, name="find"),
    path("stories/<str:any_id>.json", export.as_json, name="json"),
    path("stories/<str:any_id>", story.page, name="story"),
    path("stories/<str:any_id>/spans/<str:span_id>", story.span, name="span"),
    path("stories/<str:any_id>/folds/<str:span_id>", story.folded, name="fold"),
    path("stories/<str:any_id>/steps", story.steps, name="steps"),
    path("stories/<str:any_id>/lines", story.lines, name="lines"),
    path("stories/<str:any_id>/state", story.state, name="state"),
    path("stories/<str:any_id>/events", events.events, name="events"),
    path("stories/<str:any_id>/events/reveal", events.reveal, name="reveal"),
    path("stories/<str:any_id>/repeat", repeat.repeat, name="repeat"),
    path("stories/<str:any_id>/repeat/reveal", repeat.reveal, name="repeat-reveal"),
]
