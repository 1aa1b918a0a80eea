"""What every template is given."""

from typing import Any

from django.http import HttpRequest

from console import system
from console.pages import PAGES


def navigation(request: HttpRequest) -> dict[str, Any]:
    """`pages`, the navigation, and `sources_away`, what cannot be read now."""
    away = [
        {"source": state.source, "reason": state.reason, "since_text": f"{system.since_text(state.since)} ago"}
        for state in system.current().away()
    ]
    return {"pages": PAGES, "sources_away": away}
