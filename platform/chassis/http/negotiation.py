"""Content negotiation (RFC 9110, 12.5.1): the client's preferred format, with quality values and precedence by specificity.

A member that is not a media range is ignored, instead of rejecting the whole request.
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
# An unterminated string extends to the end of the header: searching for the end from each quote would take quadratic time.
_QUOTED = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_MEMBER = re.compile(rf"(?:{_QUOTED}|[^,\"])++")
_PARAMETER = re.compile(rf"(?:{_QUOTED}|[^;\"])++")
_RANGE = re.compile(rf"\s*+({_NAME})/({_NAME})\s*+((?:;[^;]*)*+)")
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One member of an Accept header.

    `specificity` is 3 for a media type, 2 for one with parameters (which no response has), 1 for `type/*`, 0 for `*/*`.
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
    """The media ranges of an Accept header, in order."""
    return list(_members(header))


def quality(media_type: str, ranges: Iterable[MediaRange]) -> tuple[float, int]:
    """The quality of a media type, from 0 to 1, by the most specific range that matches it; and the specificity of that range.

    So of two media types with the same quality, the one that is named takes precedence over one that a wildcard matches.
    """
    matching = [(one.specificity, one.quality) for one in ranges if one.matches(media_type)]
    specificity, wanted = max(matching, default=(0, 0.0))
    return wanted, specificity


def prefers_html(header: str | None) -> bool:
    """Whether the client prefers a page over JSON; without a preference it is JSON."""
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
        for parameter in _PARAMETER.findall(found[3]):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                weight = float(value.strip()) if _QUALITY.fullmatch(value.strip()) else None
                break
            parameters = parameters or name.strip().lower() not in {"", "charset"}
        specificity = 0 if kind == "*" else 1 if subtype == "*" else 2 if parameters else 3
        # A range with an invalid weight is ignored.
        if weight is not None and (kind != "*" or subtype == "*"):
            yield MediaRange(kind, subtype, specificity, weight)


class ContentNegotiation(BaseContentNegotiation):
    """REST framework's hook. `?format=` takes precedence, as in REST framework.

    A client that accepts `application/problem+json`, the format of errors, also accepts JSON.
    """

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        """The parser for the media type of the body, or None."""
        kind = request._request.content_type or ""
        return next((parser for parser in parsers if parser.media_type == kind), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The preferred renderer, the first of several. Raises NotAcceptable, and Http404 for an unknown format."""
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
