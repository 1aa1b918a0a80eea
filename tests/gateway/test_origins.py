"""Pages of an allowed origin can read the gateway's own responses; pages of other sites cannot."""

import pytest

from tests.gateway.clients import free_port, request, running
from tests.gateway.test_limits import is_problem
from tests.gateway.upstreams import closes, hangs

FRONT_END = "https://app.example.org"


@pytest.fixture(scope="module")
def gateway(_users, tmp_path_factory):
    with running(
        tmp_path_factory.mktemp("gateway"),
        USERS_URL=_users.url,
        ORDERS_URL=f"http://127.0.0.1:{free_port()}",
        CORS_ALLOWED_ORIGINS=f"https://other.example, {FRONT_END}",
        GATEWAY_TIMEOUT_SECONDS="1",
        GATEWAY_MAX_BODY_BYTES="1000",
    ) as gateway:
        yield gateway


ORIGIN = f"Origin: {FRONT_END}"
LONG = "x" * 9_000
REFUSED = {
    400: ("GET", "/api/users/../x", [], b""),
    404: ("GET", "/nothing", [], b""),
    405: ("TRACE", "/api/users", [], b""),
    408: ("POST", "/api/users", ["Content-Length: 10"], b"x"),
    413: ("POST", "/api/users", [], b"x" * 1001),
    414: ("GET", f"/api/users?{LONG}", [], b""),
    431: ("GET", "/api/users", [f"X: {LONG}"], b""),
    501: ("Get", "/api/users", [], b""),
    502: ("GET", "/api/orders", [], b""),
    504: ("GET", "/api/users", [], b""),
}


def refused(gateway, users, status, *fields):
    method, target, own, body = REFUSED[status]
    users.behave = hangs
    with gateway.connect() as client:
        response = client.send(request(method, target, *own, *fields, body=body)).answer()
    assert is_problem(response, status)
    return response


def is_shown(response):
    assert response["access-control-allow-origin"] == FRONT_END
    assert "Retry-After" in response["access-control-expose-headers"]
    assert response["vary"] == "Origin"
    return True


@pytest.mark.parametrize("status", REFUSED)
def test_errors_are_readable_by_an_allowed_origin(gateway, users, status):
    assert is_shown(refused(gateway, users, status, ORIGIN))


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["Origin: https://evil.example"],
        ["Origin: null"],
        [ORIGIN, ORIGIN],
        [f"{ORIGIN}.evil.example"],
        [f"X-{ORIGIN}"],
    ],
)
@pytest.mark.parametrize("status", [413, 414, 502])
def test_and_to_nobody_else(gateway, users, fields, status):
    response = refused(gateway, users, status, *fields)
    assert not [name for name, _ in response.headers if name.startswith("access-control")]
    assert response["vary"] == "Origin"


@pytest.mark.parametrize("rest", [b"X: y\nz", b"X: " + b"x" * 33_000, b"\x00: 1\r\n\r\n"])
def test_they_need_no_readable_header(gateway, rest):
    with gateway.connect() as client:
        client.send(f"GET /api/users HTTP/1.1\r\n{ORIGIN.lower()} \r\n".encode() + rest)
        response = client.answer()
    assert is_shown(response)
    assert response.status in {400, 431}


def test_a_preflight_is_answered_while_the_service_is_unavailable(gateway):
    asked = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type"]
    response = gateway.ask("OPTIONS", "/api/orders", ORIGIN, *asked)
    assert response.status == 204
    assert is_shown(response)
    assert "POST" in response["access-control-allow-methods"]
    assert "Content-Type" in response["access-control-allow-headers"]
    assert int(response["access-control-max-age"])
    # Of other sites, and what is none, the service is asked.
    assert gateway.ask("OPTIONS", "/api/orders", ORIGIN).status == 502
    assert gateway.ask("OPTIONS", "/api/orders", "Origin: https://evil.example", *asked).status == 502


def test_without_allowed_origins_there_are_no_cors_fields(another_gateway, users):
    users.behave = closes
    gateway = another_gateway(USERS_URL=users.url)
    response = gateway.ask("GET", "/api/users", ORIGIN)
    assert response.status == 502
    assert not {"vary", "access-control-allow-origin"} & {name.lower() for name, _ in response.headers}
