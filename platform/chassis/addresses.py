"""Which email addresses the API and the admin's forms accept, and the masking of logs and spans recognises."""

import re

from django.core.validators import EmailValidator
from django.utils.deconstruct import deconstructible

LOCAL_PART = 64
"""Maximum number of octets of an email address before its `@` (RFC 5321, 4.5.3.1.1)."""


@deconstructible
class AddressValidator(EmailValidator):
    """Django's validator, limited to a dot-atom (RFC 5322, 3.2.3) at a domain with a dot.

    It rejects `"a b"@example.org`, `a@[192.0.2.1]` and `a@localhost`.
    """

    message = "Enter a valid email address."
    user_regex = re.compile(
        r"[-!#$%&'*+/=?^_`{}|~0-9A-Z]+(?:\.[-!#$%&'*+/=?^_`{}|~0-9A-Z]+)*\Z", re.IGNORECASE | re.ASCII
    )
    literal_regex = re.compile(r"(?!)")
    domain_allowlist: list[str] = []
