"""The live map: services, topics and databases, with their rates, delays and health, and events that move."""

from django.urls import path

from console.pages.map import views

urlpatterns = [
    path("", views.index, name="index"),
    path("map/drawing", views.drawing, name="drawing"),
    path("map/stream", views.stream, name="stream"),
]
