"""Request heads: request line and header fields, strictly by the grammar of RFC 9112.

Ambiguous heads are rejected. So are the deviations that RFC 9112 permits but does not require a server to accept: bare LF,
several spaces in the request line, folded fields, and whitespace before a colon.
"""

import re

from gateway.connection import Header
from gateway.problems import Reason, Refused

MAX_FIELDS = 90
MAX_FIELD_BYTES = 8_000
MAX_BYTES = 32_768
"""Limits of the header fields. gunicorn accepts 100 fields of 8,190 bytes, and the gateway adds some."""

MAX_TARGET_BYTES = 8_000
"""Limit of a request target. RFC 9112 3 recommends accepting request lines of 8,000 bytes; gunicorn accepts 8,190."""

END = b"\r\n\r\n"

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_HEAD = re.compile(
    rb"(" + _TOKEN + rb"{1,64}+) ([\x21-\x7e]++) HTTP/1\.([0-9])"
    rb"((?:\r\n" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+)*+)\r\n\r\n"
)
_BEGINNING = re.compile(_TOKEN + rb"{1,64}+(?: |\Z)")
_LONG_TARGET = re.compile(_TOKEN + rb"++ [\x21-\x7e]{%d}" % (MAX_TARGET_BYTES + 1))
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^?#]*)(?:\?(.*))?", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9\-._~]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")

_INTERPRETED = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})
_CLOSE = ((b"connection", b"close"),)


class Head:
    """A syntactically valid head; `interpret` determines its meaning."""

    __slots__ = (
        "chunked", "close", "expects", "fields", "host", "length", "method", "minor", "path", "query", "special", "target",
    )  # fmt: skip

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        self.method = method.decode("ascii")
        self.target = target
        self.minor = minor
        self.fields: list[Header] = []
        """Names in lower case, values without surrounding whitespace."""
        self.special: dict[bytes, bytes] = {}
        self.path = target
        self.query = b""
        self.host: bytes | None = None
        """The authority of the target if it has one, otherwise the Host field; HTTP/1.0 may have neither."""
        self.length: int | None = None
        """The length of the body in bytes; None if it is chunked or absent."""
        self.chunked = False
        self.close = minor == 0
        self.expects = False
        """Whether the client waits for 100 Continue before sending the body."""

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head."""
        return self.chunked or bool(self.length)

    def interpret(self) -> None:
        """Determine target, host and framing. After Refused (400, 501) the end of the message is unknown."""
        special = self.special
        if special:
            connection = special.get(b"connection")
            if connection is not None and b"close" in {token.strip() for token in connection.lower().split(b",")}:
                self.close = True
            self.expects = self.minor > 0 and special.get(b"expect", b"").lower() == b"100-continue"
            self._frame(special.get(b"content-length"), special.get(b"transfer-encoding"))
        self._address(special.get(b"host"))

    def _frame(self, length: bytes | None, coding: bytes | None) -> None:
        if coding is not None:
            if length is not None:
                raise _invalid("A request cannot have both Content-Length and Transfer-Encoding.")
            if self.minor == 0:
                raise _invalid("Transfer-Encoding is not allowed in HTTP/1.0.")
            if coding.lower() != b"chunked":
                raise _unsupported_coding(coding.lower())
            self.chunked = True
        elif length is not None:
            if not length.isdigit() or len(length) > 18:
                raise _invalid("Content-Length must be a number.")
            self.length = int(length)

    def _address(self, host: bytes | None) -> None:
        if host is None:
            if self.minor > 0:
                raise _invalid("HTTP/1.1 requires a Host field.")
        elif not _is_host(host):
            raise _invalid("The Host field is invalid.")
        self.host = host
        target = self.target
        if b"#" in target:
            raise _invalid("The request target must not contain a fragment.")
        if self.method == "CONNECT":
            if not _AUTHORITY.fullmatch(target):
                raise _invalid("The target of CONNECT is invalid.")
        elif target[0] == 0x2F:
            self.path, _, self.query = target.partition(b"?")
        elif not (target == b"*" and self.method == "OPTIONS"):
            self._read_absolute(target)
        if self.host is not None:
            # RFC 9110 4.2.3: an empty port is omitted.
            self.host = self.host.removesuffix(b":")

    def _read_absolute(self, target: bytes) -> None:
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or not _is_host(absolute[1]):
            raise _invalid("The request target is invalid.")
        self.host, self.path, self.query = absolute[1], absolute[2] or b"/", absolute[3] or b""
        if self.method == "OPTIONS" and not absolute[2] and absolute[3] is None:
            # RFC 9112 3.2.4: the absolute form of `OPTIONS *`.
            self.path = b"*"


def is_complete(data: bytes) -> bool:
    """Whether the data appears to be exactly one head."""
    return data.endswith(END) and data.find(END) == len(data) - 4 and data[0] != 0x0D


def parse(data: bytes) -> Head:
    """Parse a complete head, including its empty line. Raises Refused (400, 414, 431)."""
    match = _HEAD.fullmatch(data)
    if match is None:
        if _LONG_TARGET.match(data):
            raise Refused(414, _TOO_LONG, reason=Reason.TARGET_TOO_LONG)
        raise Refused(400, _NOT_HTTP, reason=Reason.INVALID_REQUEST)
    method, target, minor, block = match.groups()
    if len(target) > MAX_TARGET_BYTES:
        raise Refused(414, _TOO_LONG, reason=Reason.TARGET_TOO_LONG)
    if len(block) > MAX_BYTES:
        raise Refused(431, _TOO_LARGE, reason=Reason.HEADER_TOO_LARGE)
    head = Head(method, target, 0 if minor == b"0" else 1)
    fields, special = head.fields, head.special
    for line in block.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        fields.append((name, value))
        if name in _INTERPRETED:
            special[name] = b"%b, %b" % (special[name], value) if name in special else value
    return head


def check_beginning(data: bytearray, scanned: int) -> None:
    """Reject data early that cannot become a valid head. The data up to `scanned` has already been checked.

    Raises Refused (400, 414, 431).
    """
    if not scanned and not _BEGINNING.match(data[:65]):
        raise Refused(400, _NOT_HTTP, reason=Reason.INVALID_REQUEST)
    if _BARE.search(data, max(0, scanned - 1)):
        raise Refused(400, "Header lines must end with CRLF.", reason=Reason.INVALID_REQUEST)
    line = data.find(b"\r\n", 0, MAX_TARGET_BYTES + 100)
    if line < 0 and len(data) > MAX_TARGET_BYTES + 90:
        raise Refused(414, _TOO_LONG, reason=Reason.TARGET_TOO_LONG)
    if line >= 0 and len(data) - line > MAX_BYTES:
        raise Refused(431, _TOO_LARGE, reason=Reason.HEADER_TOO_LARGE)


def check_bounds(fields: list[Header]) -> None:
    """Raises Refused (431) for header fields that are larger than services accept."""
    total = 0
    for name, value in fields:
        size = len(name) + len(value)
        total += size
        if size > MAX_FIELD_BYTES:
            raise Refused(431, _FIELD_TOO_LARGE, reason=Reason.HEADER_TOO_LARGE)
    if total > MAX_BYTES or len(fields) > MAX_FIELDS:
        raise Refused(431, _TOO_MANY_FIELDS, reason=Reason.HEADER_TOO_LARGE)


def _invalid(detail: str) -> Refused:
    """The error for a head after which the end of the request is unknown, or that names no resource."""
    return Refused(400, detail, _CLOSE, reason=Reason.INVALID_REQUEST)


def _unsupported_coding(coding: bytes) -> Refused:
    """The error for a transfer coding. RFC 9112 6.1, 6.3: unless chunked comes last, and once, the end of the body is unknown."""
    codings = [each.strip(b" \t") for each in coding.split(b",")]
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1 or b"" in codings:
        return _invalid("The last transfer coding must be chunked.")
    return Refused(501, "Only the chunked transfer coding is supported.", _CLOSE, reason=Reason.UNKNOWN_CODING)


def _is_host(host: bytes) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and int(match[1] or 0) <= 65_535


_NOT_HTTP = "The request is not valid HTTP/1.1."
_TOO_LONG = f"The request target is longer than {MAX_TARGET_BYTES} bytes."
_TOO_LARGE = f"The header is larger than {MAX_BYTES} bytes."
_FIELD_TOO_LARGE = f"A header field is larger than {MAX_FIELD_BYTES} bytes."
_TOO_MANY_FIELDS = f"The header is larger than {MAX_BYTES} bytes or has more than {MAX_FIELDS} fields."
