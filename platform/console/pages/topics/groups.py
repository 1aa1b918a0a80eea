"""Consumer groups: their lag per partition, and their members."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console import htmx, system


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """All groups."""
    overview = system.current().cluster.overview()
    name = "console/topics/groups_list.html" if htmx.wants_part(request) else "console/topics/groups.html"
    return render(request, name, {"overview": overview, "groups": overview.groups.values()})


@require_safe
def show(request: HttpRequest, name: str) -> HttpResponse:
    """One group."""
    overview = system.current().cluster.overview()
    group = overview.group(name)
    template = "console/topics/group_state.html" if htmx.wants_part(request) else "console/topics/group.html"
    numbers = {member.id: number for number, member in enumerate(group.members, 1)}
    rows = [(one, numbers.get(one.member)) for one in group.positions]
    values = {"overview": overview, "group": group, "rows": rows, "members": enumerate(group.members, 1)}
    return render(request, template, values)
