"""Renderers: JSON for programs, and pages for browsers."""

from collections.abc import Mapping
from typing import Any

from rest_framework import renderers

from chassis import json


class JSONRenderer(renderers.BaseRenderer):
    """JSON; money as a number with two decimals."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "text"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """Render the body, indented if the browsable API shows it."""
        if data is None:
            return b""
        return json.dumps(data, indent=bool((renderer_context or {}).get("indent")))


class BrowsableAPIRenderer(renderers.BrowsableAPIRenderer):
    """Renders the API as pages with links and forms."""
