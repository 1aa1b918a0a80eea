"""The filters of the message browser: a form, and the conditions that it stands for."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django import forms

from chassis.kafka.records import Record
from console import payloads
from console.sources import walk

LARGEST = 2**63 - 1
BROWSED_BYTES = 4_000_000
"""A page of large records is shorter, so that it does not take long."""
NEWEST, OLDEST = "newest", "oldest"

Condition = Callable[[Record], bool]


class Moment(forms.DateTimeField):
    """A time in UTC, such as `2026-11-23 17:00` or what a browser's own field sends."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S")

    def clean(self, value: Any) -> datetime | None:
        """The time, with its zone."""
        found: datetime | None = super().clean(value)
        return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)


class At(forms.CharField):
    """Where another page begins: `PARTITION:OFFSET`, separated by commas."""

    def clean(self, value: Any) -> dict[int, int]:
        """The offsets by partition."""
        text = super().clean(value)
        try:
            pairs = [one.split(":") for one in text.split(",") if one]
            return {int(number): min(max(0, int(offset)), LARGEST) for number, offset in pairs}
        except ValueError:
            raise forms.ValidationError("This is no position of a page.") from None


class Filters(forms.Form):
    """All filters must match. `offset` is where the list begins."""

    partition = forms.IntegerField(required=False, min_value=0, max_value=2**31 - 1)
    offset = forms.IntegerField(required=False, min_value=0, max_value=LARGEST, label="From offset")
    since = Moment(required=False, label="Not before (UTC)")
    until = Moment(required=False, label="Before (UTC)")
    key = forms.CharField(required=False, max_length=payloads.LONGEST_KEY_FILTER, strip=False)
    header = forms.CharField(
        required=False, max_length=1_000, widget=forms.TextInput(attrs={"placeholder": "name or name=value"})
    )
    text = forms.CharField(
        required=False,
        max_length=1_000,
        strip=False,
        label="Text",
        widget=forms.TextInput(attrs={"placeholder": "in key, headers or payload", "type": "search"}),
    )
    order = forms.ChoiceField(
        required=False, choices=[(NEWEST, "newest first"), (OLDEST, "oldest first")], label="Order"
    )
    at = At(required=False, widget=forms.HiddenInput)

    def path(self, keep: Callable[[Record], Any], most: int) -> walk.Path:
        """The walk that finds the records."""
        given = self.cleaned_data
        newest_first = given["order"] != OLDEST
        at = dict(given["at"])
        if not at and given["offset"] is not None and given["partition"] is not None:
            at = {given["partition"]: min(LARGEST, given["offset"] + newest_first)}
        conditions = list(self._conditions())
        return walk.Path(
            wanted=walk.all_of(conditions) if conditions else walk.everything,
            keep=keep,
            most=most,
            most_bytes=walk.MOST_BYTES if conditions else BROWSED_BYTES,
            first=walk.SEARCHED if conditions else walk.FIRST,
            newest_first=newest_first,
            at=at,
        )

    def clean(self) -> dict[str, Any]:
        """An offset means something in one partition only."""
        given = super().clean() or {}
        if given.get("offset") is not None and given.get("partition") is None and "partition" not in self.errors:
            self.add_error("partition", "Say in which partition this offset is.")
        return given

    @property
    def searches(self) -> bool:
        """Whether records are selected by what is in them."""
        return any(self.cleaned_data[name] for name in ("key", "header", "text"))

    def milliseconds(self, name: str) -> int | None:
        """A time, in milliseconds since the epoch."""
        moment: datetime | None = self.cleaned_data[name]
        return None if moment is None else max(0, int(moment.timestamp() * 1_000))

    def _conditions(self) -> Any:
        given = self.cleaned_data
        if given["key"]:
            yield _has_key(given["key"])
        if given["header"]:
            yield _has_header(given["header"])
        if given["text"]:
            yield _contains(given["text"])


def _has_key(text: str) -> Condition:
    is_meant = payloads.has_key(text)
    return lambda record: is_meant(record.key)


def _has_header(text: str) -> Condition:
    name, equals, value = text.partition("=")
    name, wanted = name.strip(), value.strip().encode("utf-8", "surrogatepass")
    if not equals:
        return lambda record: any(one == name for one, _ in record.headers)
    return lambda record: any(one == name and found == wanted for one, found in record.headers)


def _contains(text: str) -> Condition:
    wanted = text.encode("utf-8", "surrogatepass").lower()

    def contains(record: Record) -> bool:
        return (
            wanted in (record.value or b"").lower()
            or wanted in (record.key or b"").lower()
            or any(wanted in (value or b"").lower() for _, value in record.headers)
        )

    return contains
