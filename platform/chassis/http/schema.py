"""OpenAPI that tells the whole truth: errors, headers and the bounds of every field, not only the happy path."""

from http import HTTPStatus
from typing import Any

from drf_spectacular import openapi
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from chassis import text
from chassis.http import errors, fields, idempotency
from chassis.observability import correlation

EVERYWHERE = (400, 404, 406, 500, 503)
WITH_BODY = (413, 415)

MEANING = {
    400: "The request is not valid; `errors` says which field, and why.",
    404: "There is no such thing.",
    406: "Only JSON (and HTML, for people) can be had here.",
    409: "It contradicts the present state; `errors` says which field, and why. Or the same request is being answered.",
    412: "It is not as the precondition says: read it again.",
    413: "The body is too large.",
    415: "The body must be JSON.",
    422: "The Idempotency-Key was used for another request.",
    500: "A bug; the request id finds it in the logs.",
    503: "Something that the service needs does not answer; try again.",
}


class ProblemSerializer(serializers.Serializer[Any]):
    """An error, as RFC 9457 has it."""

    type = serializers.CharField(help_text="What kind of problem; `about:blank` says no more than the status.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(required=False)
    requestId = serializers.CharField(help_text="Finds the request in the logs and traces.")  # noqa: N815
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="What is wrong, by the path of the field: `email`, `items.0.price`.",
    )


class AutoSchema(openapi.AutoSchema):
    """drf-spectacular, plus the problems that an operation can answer with and the headers that it knows.

    A method that takes an Idempotency-Key is `@idempotent`: it can answer 409 and 422.
    """

    def get_tags(self) -> list[str]:
        """Operations are grouped by their first path segment."""
        return [self.path.strip("/").split("/")[0]]

    def get_override_parameters(self) -> list[Any]:
        """The headers: X-Request-Id everywhere, Idempotency-Key where it is taken, Location where something is made."""
        described = "Who asked: sent on with everything that this request causes, logged, and returned."
        parameters = [
            OpenApiParameter(correlation.HEADER, OpenApiTypes.STR, OpenApiParameter.HEADER, description=described),
            OpenApiParameter(
                correlation.HEADER, OpenApiTypes.STR, OpenApiParameter.HEADER, description=described, response=True
            ),
        ]
        if self._is_idempotent():
            parameters += _idempotency(201 if self._is_create_operation() else 200)
        if getattr(self.view, "conditional", False):
            parameters += _conditional(self.method)
        if self._is_create_operation():
            parameters.append(
                OpenApiParameter(
                    "Location",
                    OpenApiTypes.URI_REF,
                    OpenApiParameter.HEADER,
                    description="Where the new thing is.",
                    response=[201],
                )
            )
        return parameters

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        schema = super()._map_serializer_field(field, direction, bypass_extensions)  # type: ignore[no-untyped-call]
        if isinstance(field, serializers.ListSerializer):
            bounds = {"minItems": getattr(field, "min_length", None), "maxItems": getattr(field, "max_length", None)}
            schema |= {name: bound for name, bound in bounds.items() if bound is not None}
        return schema

    def _is_idempotent(self) -> bool:
        return hasattr(getattr(self.view, getattr(self.view, "action", None) or "", None), "idempotent")

    def _problems(self) -> list[int]:
        statuses = set(EVERYWHERE)
        if self.method in {"POST", "PUT", "PATCH"}:
            statuses |= set(WITH_BODY)
        if self._is_idempotent():
            statuses |= {409, 422}
        if getattr(self.view, "conditional", False) and self.method in _WRITES:
            statuses.add(412)
        return sorted(statuses)

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        responses = super()._get_response_bodies(direction)
        for status in self._problems():
            body = errors.problem(status, MEANING[status]) | {"requestId": "0d9a5c1e-7d4b-4b62-9f0e-2a8f6a3c5b11"}
            example = OpenApiExample(HTTPStatus(status).phrase, body)
            described = OpenApiResponse(ProblemSerializer, MEANING[status], [example])
            responses[str(status)] = self._get_response_for_code(  # type: ignore[no-untyped-call]
                described, str(status), [errors.CONTENT_TYPE], direction
            )
        if getattr(self.view, "conditional", False) and self.method == "GET":
            responses["304"] = {
                "description": "What the client has is what there is.",
                "headers": self._get_response_headers_for_code("304", direction),
            }
        if self.method == "DELETE":
            responses["204"]["headers"] = self._get_response_headers_for_code("204", direction)
        return responses


def _idempotency(status: int) -> list[OpenApiParameter]:
    return [
        OpenApiParameter(
            idempotency.HEADER,
            {"type": "string", "pattern": idempotency.PATTERN},
            OpenApiParameter.HEADER,
            description="The same key and body again: the first answer again. The same key with another body: 422. In quotes"
            " (RFC 8941) or not, it is the same key.",
        ),
        OpenApiParameter(
            idempotency.REPLAYED,
            {"type": "string", "const": "true"},
            OpenApiParameter.HEADER,
            description="`true` where this answer was given before.",
            response=[status],
        ),
    ]


_WRITES = frozenset({"PUT", "PATCH", "DELETE"})

_ASKED = {
    "If-None-Match": "The ETags that the client has: one of them is a 304.",
    "If-Modified-Since": "When the client has read it: unchanged since is a 304.",
    "If-Match": "The ETag that the client has seen: anything else is a 412.",
    "If-Unmodified-Since": "When the client has seen it: changed since is a 412.",
}
_SAID = {"ETag": "Of this JSON, byte for byte.", "Last-Modified": "When it was changed, to the second; not of a list."}


def _conditional(method: str) -> list[OpenApiParameter]:
    """The header fields of RFC 9110, 13, that this method takes and answers with."""
    asked = list(_ASKED)[:2] if method == "GET" else list(_ASKED)[2:] if method in _WRITES else []
    said = {"GET": [200, 304], "POST": [201], "PATCH": [200]}.get(method)
    return [
        *(OpenApiParameter(name, str, OpenApiParameter.HEADER, description=_ASKED[name]) for name in asked),
        *(
            OpenApiParameter(name, str, OpenApiParameter.HEADER, description=meaning, response=said)
            for name, meaning in _SAID.items()
            if said and (name == "ETag" or method == "GET")
        ),
    ]


RULE_OF_TEXT = (
    "One line of letters, marks, numbers, punctuation, symbols and spaces (Unicode's general categories), of which something"
    " can be seen: not spaces and combining marks alone. Of format characters only the zero-width joiner and non-joiner and"
    " the marks U+200E, U+200F and U+061C; no control characters, overrides of direction, private use, surrogates or"
    " unassigned characters. Spaces around it are taken off."
)


class _TextFieldSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = fields.TextField

    def map_serializer_field(self, auto_schema: openapi.AutoSchema, direction: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": text.PATTERN, "description": RULE_OF_TEXT}


class _EmailFieldSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = fields.EmailField

    def map_serializer_field(self, auto_schema: openapi.AutoSchema, direction: Any) -> dict[str, Any]:
        return {"type": "string", "format": "email"}


class _MoneyFieldSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = fields.MoneyField

    def map_serializer_field(self, auto_schema: openapi.AutoSchema, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "number", "minimum": 0, "multipleOf": 0.01}
        if self.target.max_value is not None:
            schema["maximum"] = float(self.target.max_value)
        return schema
