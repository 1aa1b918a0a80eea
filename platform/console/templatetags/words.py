"""Template filters for texts."""

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from console import payloads

register = template.Library()

register.filter("visible", payloads.visible)

_CODE = re.compile(r"`([^`]+)`")


@register.filter
def code(text: str) -> SafeString:
    """Show what is between backticks as code."""
    return mark_safe(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S308  escaped before
