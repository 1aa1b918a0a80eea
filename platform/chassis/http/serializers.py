"""Serializers whose fields are prepared once per class, instead of once per object.

REST framework copies the fields of a serializer for each use of it, since code may change them, and looks up how to read each
attribute for each object. That takes as long as the query for the object.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from django.conf import settings
from django.utils.functional import cached_property
from rest_framework import fields, serializers
from rest_framework.utils.serializer_helpers import BindingDict

from chassis.http import fields as own

PLAIN = frozenset(
    {
        fields.BooleanField, fields.CharField, fields.ChoiceField, fields.DateField, fields.DateTimeField,
        fields.DecimalField, fields.FloatField, fields.IntegerField, fields.UUIDField,
        own.EmailField, own.IntegerField, own.MoneyField, own.TextField, own.TokenField,
    }
)  # fmt: skip
"""Fields that convert a value without knowing the request or the serializer they are used in."""

Read = Callable[[Any], Any]
Convert = Callable[[Any], Any]
Represent = Callable[[Any], dict[str, Any]]


class Serializer(serializers.Serializer[Any]):
    """REST framework's serializer, and as general, but faster if all its fields are PLAIN or serializers of such fields.

    The fields of such a serializer are shared by all its instances, so they cannot be changed.
    """

    @cached_property
    def fields(self) -> BindingDict:
        """The fields by name."""
        # The fields of a nested serializer are part of its parent's, whose `partial` applies to them.
        if self.parent is not None or not is_plain(type(self)):
            return super().fields
        return _shared_fields(type(self), self.partial)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """The values of an object as they appear in JSON."""
        if isinstance(instance, Mapping) or not is_plain(type(self)):
            return super().to_representation(instance)
        represented = {}
        for name, read, convert in _readers(type(self)):
            value = read(instance)
            if callable(value):  # a method, or missing
                return super().to_representation(instance)
            represented[name] = None if value is None else convert(value)
        return represented


@cache
def is_plain(serializer: Any) -> bool:
    """Whether each field of a serializer is PLAIN, or a serializer of such fields, and is an attribute of the object."""
    if not issubclass(serializer, Serializer) or serializer.get_fields is not serializers.Serializer.get_fields:
        return False
    return all(map(_is_plain, serializer._declared_fields.values()))


def _is_plain(field: Any) -> bool:
    if type(field) is serializers.ListSerializer:
        field = field.child
    kind: Any = type(field)
    known = is_plain(kind) if isinstance(field, serializers.BaseSerializer) else kind in PLAIN
    return known and not getattr(field.default, "requires_context", False) and not {"*", "."} & set(field.source or "")


class _SharedFields(BindingDict):
    """Fields that cannot be replaced or removed once `is_complete` is set."""

    is_complete = False

    def __setitem__(self, name: str, field: Any) -> None:
        self._check()
        super().__setitem__(name, field)

    def __delitem__(self, name: str) -> None:
        self._check()
        super().__delitem__(name)

    def _check(self) -> None:
        if self.is_complete:
            kind = type(self.serializer).__name__
            raise TypeError(f"the fields of {kind} are shared by all its instances: override get_fields to vary them")


@cache
def _shared_fields(serializer: type[Serializer], partial: bool) -> BindingDict:
    """The fields of all instances, bound to one that exists only for this purpose."""
    owner = serializer(partial=partial)
    shared = _SharedFields(owner)
    for name, field in owner.get_fields().items():
        shared[name] = field
    shared.is_complete = True
    return shared


def _missing() -> None:
    """Stands for an attribute that an object does not have."""


@cache
def _readers(serializer: type[Serializer]) -> list[tuple[str, Read, Convert]]:
    """For each field that is read: its name, how to read it from an object, and how to represent a value that is not None."""
    return [
        (name, _reader(field.source or name), field.to_representation) for name, field in _readable(serializer).items()
    ]


def attributes(serializer: type[Serializer]) -> set[str]:
    """The attributes of an object that a plain serializer reads."""
    return {field.source or name for name, field in _readable(serializer).items()}


def _readable(serializer: type[Serializer]) -> dict[str, Any]:
    """The fields that are represented, by name."""
    return {name: field for name, field in _shared_fields(serializer, False).items() if not field.write_only}


def of_rows(serializer: type[Serializer]) -> Represent:
    """How a plain serializer represents a row: a named tuple of the columns that it reads."""
    known: dict[type, list[tuple[str, int, Convert]]] = {}

    def represent(row: Any) -> dict[str, Any]:
        columns = known.get(type(row))
        if columns is None:
            columns = known[type(row)] = _columns(serializer, row._fields)
        return {name: None if (value := row[at]) is None else convert(value) for name, at, convert in columns}

    return represent


def _columns(serializer: type[Serializer], names: Sequence[str]) -> list[tuple[str, int, Convert]]:
    return [
        (name, names.index(field.source or name), _converter(field)) for name, field in _readable(serializer).items()
    ]


def _converter(field: Any) -> Convert:
    """How to represent a value. A time in UTC is written without looking for the time zone, which takes ten times as long."""
    usual: Convert = field.to_representation
    is_usual = type(field) is fields.DateTimeField and not {"format", "timezone"} & vars(field).keys()
    if not (is_usual and settings.USE_TZ and settings.TIME_ZONE == "UTC"):
        return usual

    def convert(value: Any) -> Any:
        text = value.isoformat()
        return f"{text[:-6]}Z" if text.endswith("+00:00") else usual(value)

    return convert


def _reader(attribute: str) -> Read:
    return lambda instance: getattr(instance, attribute, _missing)
