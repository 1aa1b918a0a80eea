"""The system's JSON: UTF-8, no NaN, money as a number with two decimals and as a Decimal in Python."""

import json
from decimal import Decimal
from typing import Any

import orjson


def dumps(value: Any, *, indent: bool = False) -> bytes:
    """Encode a value. A Decimal is money, and becomes a number with two decimals; times in UTC end in Z."""
    option = orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(value, default=_default, option=option)


def loads(text: bytes) -> Any:
    """Decode JSON; numbers with a point or an exponent become Decimals with the same digits.

    Raises ValueError for anything that is not JSON: NaN, a lone surrogate, an encoding other than UTF-8, excessive nesting or
    integers.
    """
    # orjson is strict, but converts numbers to floats; json can preserve their digits, but is lenient.
    orjson.loads(text)
    try:
        return json.loads(text.decode(), parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:.2f}")
    # For example, lazily translated strings.
    return str(value)
