"""Formats the head of a response."""

import time
from functools import lru_cache
from http import HTTPStatus

from gateway.connection import Header

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_CLOSE = (b"connection", b"close")


def head(status: int, fields: list[Header], *, close: bool) -> bytes:
    """Status line, Date and `fields`, with `Connection: close` if this is the last response of the connection."""
    if close and _CLOSE not in fields:
        fields.append(_CLOSE)
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    return b"%bdate: %b\r\n%b\r\n" % (_status_line(status), _date(int(time.time())), lines)


def interim(status: int, fields: list[Header]) -> bytes:
    """A complete interim response."""
    return b"%b%b\r\n" % (_status_line(status), b"".join([b"%b: %b\r\n" % field for field in fields]))


def bodiless(status: int) -> bool:
    """Whether a response with this status has neither a body nor Content-Length."""
    return status in (204, 304)


@lru_cache(maxsize=600)
def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    # Not strftime, which depends on the locale.
    moment = time.gmtime(second)
    day, month = _DAYS[moment.tm_wday], _MONTHS[moment.tm_mon - 1]
    clock = f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
    return f"{day}, {moment.tm_mday:02} {month} {moment.tm_year} {clock} GMT".encode()


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
