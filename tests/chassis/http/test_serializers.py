"""The prepared serializer gives the same results as REST framework's own."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace

import pytest
from rest_framework import serializers

from chassis.http.fields import MoneyField, TextField
from chassis.http.serializers import Serializer, is_plain


def both(**members):
    """The same serializer on REST framework's base class and on ours."""
    return type("Both", (serializers.Serializer,), dict(members)), type("Both", (Serializer,), dict(members))


FIELDS = {
    "id": serializers.UUIDField(read_only=True),
    "name": TextField(max_length=5, required=False, allow_null=True),
    "price": MoneyField(source="cost"),
    "state": serializers.ChoiceField(choices=[("a", "A")], default="a"),
    "secret": serializers.CharField(write_only=True, required=False),
    "createdAt": serializers.DateTimeField(source="created_at", read_only=True),
}
ROW = {
    "id": uuid.uuid4(),
    "name": "Ada",
    "cost": Decimal("1.50"),
    "state": "a",
    "created_at": datetime(2026, 1, 2, tzinfo=UTC),
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"name": None},
        {"created_at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))},
        {"cost": 2},
        {"name": lambda: "a method"},
        {"state": "unknown"},
    ],
    ids=["a row", "a null", "another time zone", "an int as money", "a method", "an unknown choice"],
)
def test_an_object_is_represented_in_the_same_way(change):
    theirs, ours = both(**FIELDS)
    row = SimpleNamespace(**{**ROW, **change})

    assert ours(row).data == theirs(row).data
    assert ours([row, row], many=True).data == theirs([row, row], many=True).data
    assert list(ours(row).data) == list(theirs(row).data)


def test_so_is_a_dictionary():
    theirs, ours = both(**FIELDS)
    assert ours(ROW).data == theirs(ROW).data


def test_a_missing_attribute_is_an_error_that_names_it():
    theirs, ours = both(**FIELDS)
    row = SimpleNamespace(**{name: value for name, value in ROW.items() if name != "id"})
    # `id` is not required, so it is left out.
    assert ours(row).data == theirs(row).data
    del row.cost
    with pytest.raises(AttributeError, match="`price` on serializer `Both`"):
        _ = ours(row).data


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        {"price": 1, "name": "Ada", "secret": "s", "id": "ignored"},
        {},
        {"name": "too long"},
        {"name": None, "price": Decimal("1.005")},
        {"price": 1, "state": "unknown"},
        [],
        None,
        "text",
    ],
)
def test_input_is_validated_in_the_same_way(data, partial):
    results = []
    for kind in both(**FIELDS):
        serializer = kind(data=data, partial=partial)
        results.append(
            (serializer.is_valid(), serializer.validated_data if serializer.is_valid() else serializer.errors)
        )
    assert results[0] == results[1]


@pytest.mark.parametrize("partial", [False, True])
def test_partial_applies_to_nested_serializers(partial):
    theirs_inner, ours_inner = both(a=serializers.IntegerField(), b=serializers.IntegerField())
    theirs = type(
        "Outer", (serializers.Serializer,), {"items": theirs_inner(many=True, required=False), "one": theirs_inner()}
    )
    ours = type("Outer", (Serializer,), {"items": ours_inner(many=True, required=False), "one": ours_inner()})
    assert is_plain(ours)
    for data in ({"items": [{"a": 1}], "one": {"b": 2}}, {"one": {"a": 1, "b": 2}}, {}):
        results = []
        for kind in (theirs, ours):
            serializer = kind(data=data, partial=partial)
            results.append((serializer.is_valid(), serializer.errors))
        assert results[0] == results[1]


class Varying(Serializer):
    a = serializers.IntegerField()
    b = serializers.IntegerField()

    def get_fields(self):
        found = super().get_fields()
        del found["b"]
        return found


class Computed(Serializer):
    a = serializers.SerializerMethodField()

    def get_a(self, row):
        return self.context["factor"] * row.a


class Hidden(Serializer):
    a = serializers.HiddenField(default=serializers.CurrentUserDefault())


class Derived(Serializer):
    a = serializers.CharField(source="b.c")


def test_what_varies_or_needs_the_request_is_left_to_rest_framework():
    assert not any(map(is_plain, (Varying, Computed, Hidden, Derived, serializers.Serializer)))
    row = SimpleNamespace(a=2, b=SimpleNamespace(c=3))
    assert Varying(row).data == {"a": 2}
    assert Computed(row, context={"factor": 3}).data == {"a": 6}
    assert Derived(row).data == {"a": "3"}


def test_shared_fields_cannot_be_changed():
    _, ours = both(**FIELDS)
    assert ours().fields is ours().fields
    with pytest.raises(TypeError, match="the fields of Both are shared by all its instances"):
        ours().fields.pop("name")
    with pytest.raises(TypeError, match="override get_fields"):
        ours().fields["more"] = serializers.CharField()


def test_the_services_serializers_are_prepared():
    from orders.serializers import OrderFilter, OrderSerializer
    from users.serializers import UserSerializer

    assert all(map(is_plain, (UserSerializer, OrderSerializer, OrderFilter)))
