"""The runbook, as it is in this repository: its sections as plain text, each with the anchor that alerts and commands name."""

import re
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console.failures import NotFound
from services.discovery import ROOT

_HEADING = re.compile(r"^(#{1,4}) (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """A section. `level` is that of its heading: 2 to 4."""

    title: str
    anchor: str
    level: int
    text: str


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page."""
    path = ROOT / "docs" / "runbook.md"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise NotFound("docs/runbook.md is not here: this is not a clone of the repository.") from None
    return render(request, "console/catalogue/runbook.html", {"sections": sections(text)})


def sections(text: str) -> list[Section]:
    """The sections of a page in Markdown, but not its title."""
    found = list(_HEADING.finditer(text))
    ends = [one.start() for one in found[1:]] + [len(text)]
    return [
        Section(one[2], _anchor(one[2]), max(2, len(one[1])), text[one.end() : end].strip())
        for one, end in zip(found, ends, strict=True)
    ]


def _anchor(title: str) -> str:
    """The anchor that the documentation's site gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
