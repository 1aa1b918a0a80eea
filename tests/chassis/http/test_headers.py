"""No header value causes a 5xx, and errors are problems with the request id: at services and at the gateway's pages."""

import gzip
import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving import gateway, serving

BROKEN = [
    "application/json; charset*=bogus''%41",
    "application/json; charset*0*=bogus''%41; charset*1=b",
    "text/html; a*=''%ff; charset*=utf-99''x",
    "multipart/form-data; boundary*=klingon'en'%41",
    "application/json; x*=\x80''%41",
]
FOREIGN = ["hex", "idna", "rot13", "undefined", "latin-1", "utf-16", "nonsense", "punycode", "zip"]

NAMES = [
    "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Authorization", "Content-Encoding",
    "Content-Language", "Content-Type", "Cookie", "Date", "Expect", "Forwarded", "From", "Host", "Idempotency-Key",
    "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Max-Forwards", "Origin",
    "Prefer", "Range", "Referer", "Sec-Fetch-Site", "Te", "Traceparent", "Tracestate", "Baggage", "Upgrade", "User-Agent",
    "Via", "X-Csrftoken", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto",
    "X-Http-Method-Override", "X-Request-Id", "X-Requested-With", "Access-Control-Request-Method",
]  # fmt: skip
PIECES = st.sampled_from(
    [
        "*", "=", ";", ",", "/", '"', "'", "%", "W/", "*/*", "q=0", "q=", "bytes=", "bytes=0-", "-1", "charset", "charset*=",
        "bogus''%41", "utf-8", "hex", "idna", "application/json", "multipart/form-data", "text/html", "boundary=", "0", "1" * 5000,
        "Thu, 26 Nov 99999 25:61:61 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "00-", "ff", "a" * 32, "::1", "[", "]", "@", ":", "..",
        "//", "null", "cross-site", 'sessionid="\\000aaaaaaaaaa"', "csrftoken=", "messages=", "\\000", "\\", "\t", " ", "é", "ÿ",
    ]
)  # fmt: skip
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
VALUES = st.one_of(st.lists(PIECES | TEXT, max_size=8).map("".join), st.sampled_from(BROKEN)).map(str.strip)
HEADERS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)
BODY = json.dumps({"email": "ada@example.org", "name": "Ada"}).encode()

PAGES = st.sampled_from(
    [
        ("GET", "/users?q=1&limit=2"), ("POST", "/users"), ("PUT", "/users/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"),
        ("OPTIONS", "/users"), ("GET", "/schema"), ("GET", "/health/live"), ("GET", "/metrics"), ("GET", "/nothing"),
        ("GET", "/static/rest_framework/css/bootstrap.min.css"), ("GET", "/admin/"), ("GET", "/admin/login/"),
        ("POST", "/admin/login/"), ("GET", "/asyncapi"),
    ]
)  # fmt: skip
GATEWAY_PAGES = st.sampled_from(
    [
        ("GET", "/"), ("GET", "/api"), ("GET", "/api/docs?x=1"), ("GET", "/api/schema"), ("GET", "/api/asyncapi"),
        ("GET", "/metrics"), ("GET", "/health/live"), ("GET", "/nothing"), ("POST", "/api/docs"),
        ("GET", "/static/rest_framework/css/bootstrap.min.css"),
    ]
)  # fmt: skip

property_test = settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Said:
    """What was answered to the bytes of one request."""

    def __init__(self, address, method, path, *headers, body=b"", version="1.1", host=True):
        lines = [
            f"{method} {path} HTTP/{version}",
            *([f"Host: {address}"] if host else []),
            "Connection: close",
            *headers,
        ]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        name, _, port = address.partition(":")
        with socket.create_connection((name, int(port)), timeout=30) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            self.status, self.headers, self.body = response.status, response.headers, response.read()

    def assert_problem(self, *statuses):
        assert self.status in statuses, (self.status, self.body)
        assert self.headers["Content-Type"] == "application/problem+json"
        assert json.loads(self.body)["requestId"] == self.headers["X-Request-Id"] != ""
        assert self.headers["X-Content-Type-Options"] == "nosniff"


@pytest.fixture(scope="module")
def users():
    with serving("users") as url:
        yield urlsplit(url).netloc


@pytest.fixture(scope="module")
def pages(users):
    with gateway(users=f"http://{users}", orders=f"http://{users}", payments=f"http://{users}") as served:
        yield urlsplit(served.url).netloc


@given(page=PAGES, headers=HEADERS)
@property_test
def test_no_header_makes_a_service_fail(users, page, headers):
    assert_no_failure(users, page, headers)


@given(page=GATEWAY_PAGES, headers=HEADERS)
@property_test
def test_no_header_makes_a_page_of_the_gateway_fail(pages, page, headers):
    assert_no_failure(pages, page, headers)


def assert_no_failure(address, page, headers):
    lines = [f"{name}: {value}" for name, value in headers.items()]
    body = BODY if page[0] in {"POST", "PUT"} else b""
    said = Said(address, *page, *lines, body=body, host="Host" not in headers)
    assert said.status < 500, (page, headers, said.body)
    if said.status >= 400:
        assert said.headers["Content-Type"] in {"application/problem+json", "text/html; charset=utf-8"}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize(
    "page", ["/users", "/admin/login/", "/health/live", "/metrics", "/schema", "/static/x", "/nothing"]
)
def test_an_invalid_content_type_is_a_problem_on_every_page(users, page, kind):
    for method, body in (("GET", b""), ("POST", BODY)):
        Said(users, method, page, f"Content-Type: {kind}", body=body).assert_problem(400)


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("page", ["/", "/api", "/api/docs", "/api/schema", "/metrics", "/health/ready", "/nothing"])
def test_pages_of_the_gateway_accept_no_body_and_ignore_content_type(pages, page, kind):
    assert Said(pages, "GET", page, f"Content-Type: {kind}").status == Said(pages, "GET", page).status < 500


@pytest.mark.parametrize("charset", FOREIGN)
def test_a_body_that_is_not_utf8_is_rejected(users, charset):
    said = Said(users, "POST", "/users?a=b", f"Content-Type: application/json; charset={charset}", body=BODY)

    said.assert_problem(415)
    # Without a body it says nothing.
    assert Said(users, "GET", "/users?a=b", f"Content-Type: application/json; charset={charset}").status == 200


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "us-ascii", '"utf-8"'])
def test_utf8_is_accepted_by_any_name(users, charset):
    said = Said(users, "POST", "/users", f"Content-Type: application/json;charset={charset}", body=b"{}")

    assert "email" in json.loads(said.body)["errors"]


def test_an_encoded_body_is_rejected_as_such(users):
    body = gzip.compress(BODY)
    said = Said(users, "POST", "/users", "Content-Type: application/json", "Content-Encoding: gzip", body=body)

    said.assert_problem(415)
    assert said.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Type: application/json", "Content-Type: text/plain"], 400),
        (["Content-Length: x"], 400),
        (["Bad Name: x"], 400),
        (["Expect: a-miracle"], 417),
        (["Transfer-Encoding: steam"], 501),
        (["X-Long: " + "x" * 10_000], 431),
    ],
)
def test_errors_of_gunicorn_are_also_problems(users, lines, status):
    Said(users, "GET", "/users", *lines).assert_problem(status)


@pytest.mark.parametrize(
    "lines",
    [
        ["Script_Name: /evil"],
        ["Path_Info: /evil"],
        ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"],
        ["Forwarded: proto=https"],
    ],
)
def test_gunicorn_itself_trusts_no_proxy(users, lines):
    said = Said(users, "GET", "/admin", *lines)

    assert (said.status, said.headers["Location"]) == (302, "/admin/")


def test_http_1_1_requires_a_host(users):
    for page in ("/users", "/health/live", "/metrics", "/static/rest_framework/css/bootstrap.min.css"):
        Said(users, "GET", page, host=False).assert_problem(400)
    assert Said(users, "GET", "/health/live", version="1.0", host=False).status == 200


@pytest.mark.parametrize(
    "cookie", ['sessionid="\\000aaaaaaaaaaaa"', "sessionid=" + "x" * 4000, "csrftoken=\x80", "messages=;"]
)
def test_no_cookie_makes_the_admin_fail(users, cookie):
    assert Said(users, "GET", "/admin/", f"Cookie: {cookie}").status == 302
    assert Said(users, "GET", "/admin/login/", f"Cookie: {cookie}").status == 200
