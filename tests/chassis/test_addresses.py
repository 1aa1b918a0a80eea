"""Which email addresses are accepted, and that all of them are hidden in logs."""

import pytest
from django.core.exceptions import ValidationError
from hypothesis import assume, example, given
from hypothesis import strategies as st

from chassis.addresses import AddressValidator
from chassis.observability.privacy import HIDDEN, scrub

TAKEN = [
    "ada@example.org", "O'Brien@example.org", "a+b=c/d@mail.example.org", "ADA@EXAMPLE.ORG", "a.b.c@xn--bcher-kva.example",
    "!#$%&*+-/=?^_`{}|~@example.org", f"{'a' * 64}@example.org", "1@2.example", "'@example.org", "=@example.org",
]  # fmt: skip
REFUSED = [
    '"ada"@example.org', '"@"@example.org', "ada@[192.0.2.1]", "ada@[IPv6:::1]", "ada@localhost", "ada@example", "ada@example.org.",
    ".ada@example.org", "ada.@example.org", "a..b@example.org", "ada@-x.example", "ada@192.0.2.1", "a b@example.org", "ada", "@example.org",
    "ada@example.org\n", "\u017fada@example.org",
]  # fmt: skip


@pytest.mark.parametrize("address", TAKEN)
def test_taken(address):
    AddressValidator()(address)


@pytest.mark.parametrize("address", REFUSED)
def test_refused(address):
    with pytest.raises(ValidationError):
        AddressValidator()(address)


@example("'@example.org")
@example("='='@example.org")
@given(st.emails() | st.sampled_from(TAKEN))
def test_all_accepted_values_are_hidden(address):
    try:
        AddressValidator()(address)
    except ValidationError:
        assume(False)
    local, _, domain = address.rpartition("@")
    assume(len(domain) > 3 and domain not in HIDDEN)

    for text in (
        f"from {address} to",
        f"<{address}>",
        f"'{address}'",
        f"({address})",
        f'{{"a":"{address}"}}',
        f"at={address}",
    ):
        clean = scrub(text)
        assert domain not in clean
        assert HIDDEN in clean
        # What may begin an address in no text: a quotation mark is the text's own.
        named = local.lstrip("'=")
        assert named not in clean or len(named) < 3
