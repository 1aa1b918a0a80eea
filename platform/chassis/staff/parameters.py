"""The parameters of the staff API, in a query or a body. An unknown or invalid one is a 400 response, never an error."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from chassis.story.facts import SANE

MOST_IDS = 200
"""Maximum number of ids in one parameter."""

IGNORED = frozenset({"format"})
"""Parameters of REST framework."""


class Parameters(serializers.Serializer[Any]):
    """The parameters of one page; subclasses declare them as fields."""

    def to_internal_value(self, data: Any) -> Any:
        """Validate the parameters, and reject those that are not declared."""
        given = set(data) if isinstance(data, Mapping) else set()
        if unknown := sorted(given - set(self.fields) - IGNORED):
            raise serializers.ValidationError({name[:100]: ["There is no such parameter."] for name in unknown[:10]})
        return super().to_internal_value(data)


class IdsField(serializers.CharField):
    """Ids, separated by commas; the parameter may be repeated."""

    default_error_messages = {
        "many": f"At most {MOST_IDS} ids.",
        "id": "An id is 1 to 128 letters, digits or ._:-",
    }

    def get_value(self, dictionary: Any) -> Any:
        """All values of the parameter."""
        return ",".join(dictionary.getlist(self.field_name)) if self.field_name in dictionary else serializers.empty

    def to_internal_value(self, data: Any) -> frozenset[str]:  # type: ignore[override]
        """The ids."""
        ids = frozenset(one for one in str(data).split(",") if one)
        if len(ids) > MOST_IDS:
            self.fail("many")
        if not all(SANE.fullmatch(one) for one in ids):
            self.fail("id")
        return ids


def read(kind: type[Parameters], request: Request) -> dict[str, Any]:
    """The validated parameters of a request. Raises ValidationError."""
    parameters = kind(data=request.query_params)
    parameters.is_valid(raise_exception=True)
    found: dict[str, Any] = parameters.validated_data
    return found
