"""Serializer fields that accept exactly what their schema describes: no number in place of a string, or the reverse."""

from decimal import Decimal
from typing import Any

from django.core.validators import RegexValidator
from rest_framework import serializers

from chassis.addresses import LOCAL_PART, AddressValidator
from chassis.text import TOKEN, first_refused, is_visible


class TextField(serializers.CharField):
    """One line of text with a visible character, by the rule of `chassis.text`; surrounding spaces are removed."""

    default_error_messages = {
        "character": "The character {codepoint} is not allowed.",
        "invisible": "This text has no visible characters.",
    }

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """Validate the text. The maximum length applies before spaces are removed."""
        if not isinstance(data, str):
            self.fail("invalid")
        if self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        if (refused := first_refused(data)) is not None:
            self.fail("character", codepoint=f"U+{ord(refused):04X}")
        text = data.strip()
        if text and not is_visible(text):
            self.fail("invisible")
        return text


class EmailField(TextField):
    """An email address in ASCII; an international domain is written in its `xn--` form."""

    default_error_messages = {
        "ascii": "Write the address in ASCII, an international domain as xn--…",
        "local": f"At most {LOCAL_PART} characters before the @.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": 254, **kwargs})
        self.validators.append(AddressValidator())

    def to_internal_value(self, data: Any) -> str:
        """Validate the address, and remove surrounding whitespace."""
        text = super().to_internal_value(data)
        if not text.isascii():
            self.fail("ascii")
        if len(text.rpartition("@")[0]) > LOCAL_PART:
            self.fail("local")
        return text


class TokenField(serializers.CharField):
    """An id that another service assigned: visible ASCII characters without whitespace."""

    def __init__(self, *, max_length: int = 100, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, trim_whitespace=False, **kwargs)
        self.validators.append(RegexValidator(TOKEN, "Only visible ASCII characters without whitespace are allowed."))

    def to_internal_value(self, data: Any) -> str:
        """Validate the id."""
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class IntegerField(serializers.IntegerField):
    """An integer. `1.0` is accepted; `"1"` and `true` are not."""

    def to_internal_value(self, data: Any) -> int:
        """Validate the integer."""
        if isinstance(data, bool) or not isinstance(data, int | Decimal):
            self.fail("invalid")
        # Checked before the conversion: int(Decimal("1e999999999")) would exhaust the memory.
        if isinstance(data, Decimal) and (data.adjusted() > 15 or data != data.to_integral_value()):
            self.fail("invalid")
        return super().to_internal_value(int(data))


class MoneyField(serializers.DecimalField):
    """An amount of money: a JSON number with at most two decimals, never a string, NaN or a float's approximation."""

    def __init__(self, *, max_value: Decimal | None = None, **kwargs: Any) -> None:
        super().__init__(
            max_digits=12, decimal_places=2, min_value=Decimal(0), max_value=max_value, coerce_to_string=False, **kwargs
        )

    def to_internal_value(self, data: Any) -> Decimal:
        """Validate the amount."""
        if isinstance(data, bool) or not isinstance(data, int | Decimal):
            self.fail("invalid")
        # 19.990 equals 19.99, whatever the number of trailing zeros. The size is checked before any computation, since
        # 1e999999999 is a number too.
        if isinstance(data, Decimal) and data.is_finite() and (not data or -3 < data.adjusted() < 12):
            cents = data.quantize(Decimal("0.01"))
            data = cents if cents == data else data
        # Adding zero turns -0.00 into 0.00.
        return super().to_internal_value(data) + Decimal(0)
