"""Which email addresses are taken: by the API and by the admin's forms, and known to the mask of logs and spans."""

import re

from django.core.validators import EmailValidator
from django.utils.deconstruct import deconstructible

LOCAL_PART = 64
"""Octets of an email address before its `@` (RFC 5321, 4.5.3.1.1)."""


@deconstructible
class AddressValidator(EmailValidator):
    """Django's, for addresses that mail is delivered to: a dot-atom (RFC 5322, 3.2.3) at a domain with a dot.

    Neither `"a b"@example.org`, nor `a@[192.0.2.1]`, nor `a@localhost`.
    """

    message = "Enter a valid email address."
    user_regex = re.compile(
        r"[-!#$%&'*+/=?^_`{}|~0-9A-Z]+(?:\.[-!#$%&'*+/=?^_`{}|~0-9A-Z]+)*\Z", re.IGNORECASE | re.ASCII
    )
    literal_regex = re.compile(r"(?!)")
    domain_allowlist: list[str] = []
