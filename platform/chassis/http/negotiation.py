"""Which form of an answer a client wants: RFC 9110, 12.5.1, with qualities and precedence by specificity.

A member that is not a media range is passed over: half a header is no reason to refuse a client.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.http import Http404
from rest_framework import exceptions
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

ACCEPT = "Accept"

PROBLEM, JSON, HTML = "application/problem+json", "application/json", "text/html"

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# One that does not end goes on to the header's end: to look for its end from each quote would take the square of the length.
_QUOTED = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_MEMBER = re.compile(rf"(?:{_QUOTED}|[^,\"])++")
_RANGE = re.compile(rf"\s*+({_NAME})/({_NAME})\s*+((?:;[^;]*)*+)")
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One member of an Accept header.

    `specificity` is 3 for a media type, 2 for one with parameters of its own (which none of our answers has), 1 for
    `type/*`, 0 for `*/*`.
    """

    kind: str
    subtype: str
    specificity: int
    quality: float

    def matches(self, media_type: str) -> bool:
        """Whether a media type is in the range."""
        kind, _, subtype = media_type.partition("/")
        return self.kind in {"*", kind} and self.subtype in {"*", subtype}


def parse(header: str) -> list[MediaRange]:
    """The media ranges of an Accept header, in its order."""
    return list(_members(header))


def quality(media_type: str, ranges: Iterable[MediaRange]) -> tuple[float, int]:
    """How much a media type is wanted, from 0 to 1: the most specific range that it is in decides; and how specific that is.

    So of two that are wanted as much, the one that was named comes before the one that is merely not excluded.
    """
    matching = [(one.specificity, one.quality) for one in ranges if one.matches(media_type)]
    specificity, wanted = max(matching, default=(0, 0.0))
    return wanted, specificity


def prefers_html(header: str | None) -> bool:
    """Whether a page is wanted rather than JSON; without a preference it is JSON."""
    ranges = parse(header or "*/*")
    return quality(HTML, ranges) > _json_quality(ranges)


def _members(header: str) -> Iterator[MediaRange]:
    for member in _MEMBER.findall(header):
        found = _RANGE.fullmatch(member)
        if found is None:
            continue
        kind, subtype = found[1].lower(), found[2].lower()
        weight: float | None = 1.0
        parameters = False
        for parameter in found[3].split(";"):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                weight = float(value.strip()) if _QUALITY.fullmatch(value.strip()) else None
                break
            parameters = parameters or name.strip().lower() not in {"", "charset"}
        specificity = 0 if kind == "*" else 1 if subtype == "*" else 2 if parameters else 3
        # A weight that is none makes the range as good as absent.
        if weight is not None and (kind != "*" or subtype == "*"):
            yield MediaRange(kind, subtype, specificity, weight)


class ContentNegotiation(BaseContentNegotiation):
    """REST framework's hook. `?format=` decides for itself, as in REST framework.

    Whoever takes `application/problem+json` takes JSON: errors are that, and answers its plainer kind.
    """

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        """The parser whose media type the body has; None for none."""
        kind = request._request.content_type or ""
        return next((parser for parser in parsers if parser.media_type == kind), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The renderer that is wanted most, the first of several. Raises NotAcceptable, Http404 for an unknown format."""
        candidates = list(renderers)
        if wanted := format_suffix or request.query_params.get("format"):
            candidates = [one for one in candidates if one.format == wanted]
            if not candidates:
                raise Http404
        ranges = parse(request.headers.get(ACCEPT) or "*/*")
        best = max(candidates, key=lambda one: _wanted(one, ranges))
        if not _wanted(best, ranges)[0]:
            raise exceptions.NotAcceptable(available_renderers=candidates)
        return best, str(best.media_type)


def _wanted(renderer: BaseRenderer, ranges: list[MediaRange]) -> tuple[float, int]:
    media_type = str(renderer.media_type)
    return _json_quality(ranges) if media_type == JSON else quality(media_type, ranges)


def _json_quality(ranges: list[MediaRange]) -> tuple[float, int]:
    return max(quality(JSON, ranges), quality(PROBLEM, [one for one in ranges if one.specificity > 1]))
