"""JSON as the system speaks it: UTF-8, no NaN, money as a number with two decimals, a Decimal inside."""

import json
from decimal import Decimal
from typing import Any

import orjson


def dumps(value: Any, *, indent: bool = False) -> bytes:
    """The value as JSON. A Decimal is money: a number with two decimals; times in UTC end in Z."""
    option = orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(value, default=_default, option=option)


def loads(text: bytes) -> Any:
    """The value of a JSON text; numbers with a point or an exponent are Decimals, digit for digit.

    Raises ValueError for anything that is not JSON: NaN, a lone surrogate, another encoding than UTF-8, nesting or
    integers beyond all reason.
    """
    # orjson is strict about what JSON is, but makes floats of all numbers; json keeps their digits, but is lenient.
    orjson.loads(text)
    try:
        return json.loads(text.decode(), parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:.2f}")
    # Texts that are translated late, and the like.
    return str(value)
