"""Complete OpenAPI documents: including errors, headers and the constraints of every field."""

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
    400: "The request is not valid; `errors` names the fields and the reasons.",
    404: "The resource does not exist.",
    406: "Only JSON, and HTML for browsers, is available.",
    409: "The request conflicts with the current state; `errors` names the fields and the reasons. Or a request with the same"
    " Idempotency-Key is in progress.",
    412: "The resource does not match the precondition: read it again.",
    413: "The body is too large.",
    415: "The body must be JSON.",
    422: "The Idempotency-Key was used for a different request.",
    500: "An internal error; the request id identifies it in the logs.",
    503: "A dependency of the service does not respond; try again.",
}


class ProblemSerializer(serializers.Serializer[Any]):
    """A problem document (RFC 9457)."""

    type = serializers.CharField(help_text="The type of the problem; `about:blank` means the same as the status.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(required=False)
    requestId = serializers.CharField(help_text="Identifies the request in logs and traces.")  # noqa: N815
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="Error messages by the path of the field: `email`, `items.0.price`.",
    )


class AutoSchema(openapi.AutoSchema):
    """drf-spectacular's schema, with the errors and the headers of an operation.

    A method that accepts an Idempotency-Key is decorated with `@idempotent`, and can respond with 409 and 422.
    """

    def get_tags(self) -> list[str]:
        """Group operations by their first path segment."""
        return [self.path.strip("/").split("/")[0]]

    def get_override_parameters(self) -> list[Any]:
        """The headers: X-Request-Id everywhere, Idempotency-Key where it is accepted, Location where a resource is created."""
        description = "The id of the request: logged, returned, and passed on with everything that the request causes."
        parameters = [
            OpenApiParameter(correlation.HEADER, OpenApiTypes.STR, OpenApiParameter.HEADER, description=description),
            OpenApiParameter(
                correlation.HEADER, OpenApiTypes.STR, OpenApiParameter.HEADER, description=description, response=True
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
                    description="The URL of the new resource.",
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
                "description": "The client's representation is current.",
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
            description="A request with the same key and body receives the first response again; with another body it is rejected"
            " with 422. The key may be quoted (RFC 8941); this does not change it.",
        ),
        OpenApiParameter(
            idempotency.REPLAYED,
            {"type": "string", "const": "true"},
            OpenApiParameter.HEADER,
            description="`true` if this is the response to an earlier request.",
            response=[status],
        ),
    ]


_WRITES = frozenset({"PUT", "PATCH", "DELETE"})

_PRECONDITIONS = {
    "If-None-Match": "The client's ETags: if one of them is current, the response is 304.",
    "If-Modified-Since": "The date of the client's representation: if it has not changed since, the response is 304.",
    "If-Match": "The client's ETag: if it is not current, the response is 412.",
    "If-Unmodified-Since": "The date of the client's representation: if it has changed since, the response is 412.",
}
_VALIDATORS = {
    "ETag": "The strong ETag of this JSON representation.",
    "Last-Modified": "The time of the last change, in seconds; not for lists.",
}


def _conditional(method: str) -> list[OpenApiParameter]:
    """The header fields of RFC 9110, 13, that this method accepts and returns."""
    accepted = list(_PRECONDITIONS)[:2] if method == "GET" else list(_PRECONDITIONS)[2:] if method in _WRITES else []
    returned = {"GET": [200, 304], "POST": [201], "PATCH": [200]}.get(method)
    return [
        *(OpenApiParameter(name, str, OpenApiParameter.HEADER, description=_PRECONDITIONS[name]) for name in accepted),
        *(
            OpenApiParameter(name, str, OpenApiParameter.HEADER, description=meaning, response=returned)
            for name, meaning in _VALIDATORS.items()
            if returned and (name == "ETag" or method == "GET")
        ),
    ]


RULE_OF_TEXT = (
    "One line of letters, marks, numbers, punctuation, symbols and spaces (Unicode's general categories) that contains a visible"
    " character, not only spaces and combining marks. The only format characters that are allowed are the zero-width joiner"
    " and non-joiner and the marks U+200E, U+200F and U+061C. Control characters, direction overrides, private-use characters,"
    " surrogates and unassigned characters are not allowed. Surrounding spaces are removed."
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
