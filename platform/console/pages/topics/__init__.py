"""Topics: their records, and the consumer groups that read them."""

from django.urls import path

from console.pages.topics import groups, record, republish, topics

urlpatterns = [
    path("topics", topics.index, name="index"),
    path("topics/<str:name>", topics.browse, name="browse"),
    path("topics/<str:name>/<int:partition>/<int:offset>", record.show, name="record"),
    path("topics/<str:name>/<int:partition>/<int:offset>/effects", record.effects, name="effects"),
    path("topics/<str:name>/<int:partition>/<int:offset>/reveal", record.reveal, name="reveal"),
    path("topics/<str:name>/<int:partition>/<int:offset>/value", record.value, name="value"),
    path("topics/<str:name>/<int:partition>/<int:offset>/republish", republish.ask, name="republish"),
    path("groups", groups.index, name="groups"),
    path("groups/<str:name>", groups.show, name="group"),
]
