"""Dead letters, grouped by what they have in common; redriven, discarded, or edited and redriven by their services."""

from django.urls import path

from console.pages.deadletters import decide, edit, groups, letter, run

urlpatterns = [
    path("dead-letters", groups.index, name="index"),
    path("dead-letters/runs/<str:run_id>", run.show, name="run"),
    path("dead-letters/runs/<str:run_id>/stop", run.stop, name="stop"),
    path("dead-letters/previews/<str:choice_id>", decide.preview, name="preview"),
    path("dead-letters/<str:service>/groups/<str:group_id>", groups.show, name="group"),
    path("dead-letters/<str:service>/decide", decide.decide, name="decide"),
    path("dead-letters/<str:service>/<str:letter_id>", letter.show, name="letter"),
    path("dead-letters/<str:service>/<str:letter_id>/reveal", letter.reveal, name="reveal"),
    path("dead-letters/<str:service>/<str:letter_id>/edit", edit.edit, name="edit"),
]
