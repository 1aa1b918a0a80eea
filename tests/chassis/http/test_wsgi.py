"""Bodies as they come over real connections."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from tests.serving import serving


@pytest.fixture(scope="module")
def address():
    with serving("users") as url:
        yield urlsplit(url).netloc


def send(address, chunks, **headers):
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(
            "POST", "/users", iter(chunks), {"Content-Type": "application/json", **headers}, encode_chunked=True
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_chunked_body_is_read(address):
    status, body = send(address, [b'{"email":"chunk', b'ed@example.org",', b'"name":"Ada"}'])

    assert (status, body["email"]) == (201, "chunked@example.org")


def test_a_chunked_body_with_an_idempotency_key(address):
    first, second = (
        send(address, [b'{"email":"key@example.org",', b'"name":"Ada"}'], **{"Idempotency-Key": "chunks"})
        for _ in range(2)
    )

    assert first == second


def test_a_chunked_body_that_is_too_large(address):
    status, body = send(address, [b"[" + b" " * 3_000_000 + b"]"])

    assert (status, body["status"]) == (413, 413)


def test_an_empty_chunked_body(address):
    assert send(address, [])[0] == 400
