"""Services with one defect each: the client gets an error, and the next client its own response."""

import asyncio

import pytest

from tests.gateway.clients import request
from tests.gateway.conformance.talking import exchange
from tests.gateway.upstreams import CLOSE, answer, echo
from tests.waiting import eventually

OK = b"HTTP/1.1 200 OK\r\n"
FORGED = answer(b"forged")

# What a service says, what the client may see of it (None: an answer that breaks off), and whether it closes behind it.
WRONG = {
    # --- no HTTP ---
    "nothing": (b"", {502}, CLOSE),
    "garbage": (b"garbage\r\n\r\n", {502}, CLOSE),
    "zeros": (b"\x00" * 20, {502}, CLOSE),
    "tls": (b"\x15\x03\x01\x00\x02\x02\x46", {502}, CLOSE),
    "a-request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", {502}, None),
    "other-protocol": (b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", {200, 502}, CLOSE),
    "http-2": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", {200, 502}, None),
    "http-9": (b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "no-version": (b"200 OK\r\nContent-Length: 0\r\n\r\n", {502}, None),
    # --- statuses ---
    "status-0": (b"HTTP/1.1 0 No\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "status-of-two-digits": (b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "status-of-four-digits": (b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "status-600": (b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "status-of-letters": (b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "switching-protocols": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw", {502}, None),
    "interim-without-end": (b"HTTP/1.1 103 Early\r\nLink: <x>\r\n\r\n" * 3000, {502}, CLOSE),
    "interim-only": (b"HTTP/1.1 100 Continue\r\n\r\n", {502}, CLOSE),
    # --- headers ---
    "header-cut-off": (OK + b"Content-Le", {502}, CLOSE),
    "header-of-100k": (OK + b"X: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "fields-of-100k": (OK + b"X: 1\r\n" * 17_000 + b"Content-Length: 0\r\n\r\n", {502}, None),
    "space-before-colon": (OK + b"X : 1\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "nul-in-value": (OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "cr-in-value": (OK + b"X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", {502}, None),
    "lf-for-crlf": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", {502}, None),
    "no-colon": (OK + b"nonsense\r\nContent-Length: 0\r\n\r\n", {502}, None),
    # --- framing ---
    "length-and-chunks": (OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {502}, None),
    "chunks-and-length": (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", {502}, None),
    "two-lengths": (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", {502}, None),
    "length-negative": (OK + b"Content-Length: -1\r\n\r\n", {502}, None),
    "length-of-letters": (OK + b"Content-Length: five\r\n\r\nhello", {502}, None),
    "length-overflow": (OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello", {502}, None),
    "coding-unknown": (OK + b"Transfer-Encoding: gzip\r\n\r\nhello", {502}, CLOSE),
    "coding-before-chunked": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {502}, None),
    "two-codings": (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {502}, None),
    "body-too-short": (OK + b"Content-Length: 100\r\n\r\nabc", {None, 502}, CLOSE),
    "chunks-cut-off": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", {None, 502}, CLOSE),
    "chunks-without-end": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", {None, 502}, CLOSE),
    "chunk-size-of-letters": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", {None, 502}, None),
    "chunk-without-crlf": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", {None, 502}, None),
    # --- too much ---
    "body-too-long": (OK + b"Content-Length: 3\r\n\r\nabc" + b"surplus", {200}, None),
    "a-second-answer": (answer(b"abc") + FORGED, {200}, None),
    "a-second-answer-behind-chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + FORGED, {200}, None),
    "half-a-second-answer": (answer(b"abc") + b"HTTP/1.1 200 OK\r\nX:", {200}, None),
    "body-with-204": (b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED, {204}, None),
    "body-with-204-and-length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged", {204, 502}, None),
    "body-with-304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nforged", {304}, None),
    "close-then-more": (OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc" + FORGED, {200, 502}, None),
}  # fmt: skip


def seen(gateway, data):
    """The statuses that a client sees; None for an answer that breaks off."""
    try:
        return [told.status for told in exchange(gateway, data) if told.status >= 200]
    except AssertionError:
        return [None]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("connection", ["new", "idle"])
def test_wrong(gateway, users, wrong, method, connection):
    said, allowed, then = WRONG[wrong]
    if connection == "idle":
        gateway.ask("GET", "/api/users/before")

    async def behave(received, reader, writer):
        writer.write(said)
        return then

    users.behave = behave
    statuses = seen(gateway, request(method, "/api/users/1", "Connection: close"))
    assert len(statuses) == 1
    assert statuses[0] in allowed
    # The next ones, and as many as there are connections that could be out of step, get what is theirs.
    users.behave = echo
    for number in range(3):
        assert gateway.ask("GET", f"/api/users/next{number}").body == f"/users/next{number}".encode()


def test_a_head_with_a_body(gateway, users):
    async def behave(received, reader, writer):
        writer.write(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"))
        await writer.drain()
        await asyncio.sleep(0.05)

    users.behave = behave
    assert gateway.ask("HEAD", "/api/users/1").body == b""
    eventually(lambda: users.open == 0, within=20)
    users.reset()
    assert gateway.ask("GET", "/api/users/next").body == b"/users/next"
