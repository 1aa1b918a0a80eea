"""Reading bodies: strictly, within a bound, with every digit of every number."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from chassis import json
from chassis.http.renderers import JSONRenderer


class JSONParser(BaseParser):
    """JSON in UTF-8 (RFC 8259); numbers with a point are Decimals. A body over DATA_UPLOAD_MAX_MEMORY_SIZE is a 413."""

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The parsed body. Raises ParseError and Django's RequestDataTooBig."""
        assert parser_context is not None
        # `body`, unlike `read()`, knows the bound.
        body = parser_context["request"]._request.body
        try:
            return json.loads(body)
        except ValueError:
            # The parser's own message would quote the body.
            raise ParseError("The body is not valid JSON.") from None
