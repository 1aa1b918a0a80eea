"""JSON with amounts of money."""

import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import json

money = st.decimals(min_value=0, max_value=Decimal("9999999999.99"), places=2)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | money
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(values)
def test_there_and_back(value):
    assert json.loads(json.dumps(value)) == value
    assert json.loads(json.dumps(value, indent=True)) == value


@given(money)
def test_money_has_two_decimals(amount):
    assert json.dumps(amount) == f"{amount:.2f}".encode()


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**50), max_value=10**50, places=60))
def test_no_digit_is_lost(number):
    assert json.loads(f"{number:f}".encode()) == number


def test_times_end_in_z():
    assert json.dumps(datetime(2026, 11, 23, 12, tzinfo=UTC)) == b'"2026-11-23T12:00:00Z"'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b'"\\ud800"',
        b"\xff",
        b"{",
        b"[" * 5000,
        b"1" * 5000,
        "{}".encode("utf-16"),
    ],
)
def test_invalid_json(text):
    with pytest.raises(ValueError):  # noqa: PT011  its subclasses' messages are the parsers' own
        json.loads(text)


@given(st.binary())
def test_bytes_are_json_or_a_value_error(text):
    try:
        value = json.loads(text)
    except ValueError:
        return
    assert not isinstance(value, float) or math.isfinite(value)
