"""Bodies and targets over real connections."""

import http.client
import json
import socket
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


BODY = b'{"email":"cut@example.org","name":"Ada"}'
FORM = b"--x".join(
    [b"", b'\r\nContent-Disposition: form-data; name="email"\r\n\r\ncut@example.org\r\n',
     b'\r\nContent-Disposition: form-data; name="name"\r\n\r\nAda\r\n', b"--\r\n"]
)  # fmt: skip


def said(address, target, *lines, body=b""):
    """What is answered to these bytes, after which the client sends no more."""
    head = [f"POST {target} HTTP/1.1" if body else f"GET {target} HTTP/1.1", *lines, "Connection: close", "", ""]
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join(head).encode() + body)
        connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers["Content-Type"], response.read()


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["Content-Type: application/json", "Content-Length: 100"], BODY),
        (["Content-Type: application/json", "Content-Length: 100", "Idempotency-Key: cut"], BODY),
        (["Content-Type: multipart/form-data; boundary=x", "Content-Length: 1000"], FORM),
        (["Content-Type: application/json", "Transfer-Encoding: chunked"], b"%x\r\n%b\r\n" % (len(BODY), BODY)),
        (["Content-Type: application/json", "Transfer-Encoding: chunked"], b"%x\r\n%b" % (len(BODY) + 10, BODY)),
    ],
)
def test_an_incomplete_body_is_rejected_even_if_its_part_is_valid(address, lines, body):
    assert said(address, "/users", f"Host: {address}", *lines, body=body)[:2] == (400, "application/problem+json")


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked", "CHUNKED , chunked"])
def test_a_body_in_an_unknown_transfer_coding_is_not_treated_as_empty(address, coding):
    lines = ["Content-Type: application/json", f"Transfer-Encoding: {coding}"]
    status, kind, _ = said(
        address, "/users", f"Host: {address}", *lines, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    )

    assert status in {400, 501}
    assert kind == "application/problem+json"


def test_an_absolute_target_says_the_host(address):
    assert said(address, f"http://{address}/users", "Host: evil.example")[0] == 200
    assert said(address, "http://evil.example/users", f"Host: {address}")[0] == 400
    assert said(address, "http:///users", f"Host: {address}")[0] == 400


@pytest.mark.parametrize("port", ["65536", "99999999", "9" * 5000])
def test_a_host_with_an_invalid_port_is_in_no_link(address, port):
    assert said(address, "/users", f"Host: localhost:{port}")[:2] == (400, "application/problem+json")
    assert said(address, "/users", "Host: localhost:0065535")[0] == 200


@pytest.mark.parametrize("path", ["/users", "/health/live", "/admin/login/", "/nothing"])
@pytest.mark.parametrize("digits", [19, 400, 4000])
def test_a_content_length_of_any_size_is_no_server_error(address, path, digits):
    lines = [f"Host: {address}", "Content-Type: application/json", f"Content-Length: {'9' * digits}"]
    assert said(address, path, *lines, body=BODY)[:2] == (413, "application/problem+json")
    assert said(address, path, *lines)[:2] == (413, "application/problem+json")


def test_zeros_make_no_content_length_too_large(address):
    lines = [f"Host: {address}", "Content-Type: application/json", f"Content-Length: {'0' * 400}2"]
    assert said(address, "/users", *lines, body=b"{}")[0] == 400


@pytest.mark.parametrize(
    "path", ["/health/live", "/metrics", "/asyncapi", "/schema", "/static/rest_framework/css/bootstrap.min.css"]
)
def test_read_only_resources_answer_405(address, path):
    connection = http.client.HTTPConnection(address, timeout=30)
    for method in ("POST", "DELETE", "PROPFIND"):
        connection.request(method, path)
        answer = connection.getresponse()
        assert json.loads(answer.read())["status"] == answer.status == 405
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "GET" in answer.headers["Allow"]
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


def test_a_chunked_body_is_too_large(address):
    status, body = send(address, [b"[" + b" " * 3_000_000 + b"]"])

    assert (status, body["status"]) == (413, 413)


def test_an_empty_chunked_body(address):
    assert send(address, [])[0] == 400
