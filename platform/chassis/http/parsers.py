"""Body parsers: strict, limited in size, and without loss of precision in numbers."""

import io
from collections.abc import Mapping
from typing import IO, Any

from django.utils.http import parse_header_parameters
from rest_framework import parsers
from rest_framework.exceptions import ParseError

from chassis import json
from chassis.http.renderers import JSONRenderer


class JSONParser(parsers.BaseParser):
    """Parses JSON in UTF-8 (RFC 8259); numbers with a point are Decimals. A body over DATA_UPLOAD_MAX_MEMORY_SIZE is a 413."""

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Parse the body. Raises ParseError and Django's RequestDataTooBig."""
        try:
            return json.loads(_body(parser_context))
        except ValueError:
            # The exception's own message may quote the body.
            raise ParseError("The body is not valid JSON.") from None


class FormParser(parsers.MultiPartParser):
    """Parses the HTML forms of the browsable API, with the same size limit."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Parse the fields. Raises ParseError and Django's RequestDataTooBig."""
        body = _body(parser_context)
        parsed = super().parse(io.BytesIO(body), media_type, parser_context)
        # Django accepts a form that breaks off, with what has arrived of its last field.
        _, parameters = parse_header_parameters(media_type or "")
        if body and f"--{parameters.get('boundary')}--".encode() not in body:
            raise ParseError("The form is incomplete: its closing boundary is missing.")
        return parsed


def _body(parser_context: Mapping[str, Any] | None) -> bytes:
    # `body`, unlike the stream's `read()`, enforces the size limit.
    assert parser_context is not None
    body: bytes = parser_context["request"]._request.body
    return body
