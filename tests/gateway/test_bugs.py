"""A bug in the gateway ends one connection: it stops neither the process nor its timers, and leaks nothing."""

import pytest

from tests.gateway.breaking import LEAVES, PLACES
from tests.gateway.clients import REQUESTS, request, running
from tests.gateway.upstreams import hangs
from tests.waiting import eventually


@pytest.fixture(scope="module")
def broken(_users, tmp_path_factory):
    command = ("-m", "tests.gateway.breaking", "PORT")
    with running(
        tmp_path_factory.mktemp("gateway"), command=command, USERS_URL=_users.url, GATEWAY_TIMEOUT_SECONDS="1"
    ) as gateway:
        yield gateway


def provoking(place):
    """Requests that come by this place; the second one behind one that does not."""
    if place == "in-expired":
        return [b"GET /in-expired HTTP/1.1\r\nHost: localhost\r\n"]
    targets = ["/health/live"] if place in {"in-page", "in-scope"} else ["/api/users", "/nothing", "/api/users/../x"]
    get, *others = [request("GET", f"{target}?{place}") for target in targets]
    posts = [request("POST", f"{target}?{place}", body=b"abc") for target in targets]
    return [get, request("GET", "/health/live") + get, *others, *posts]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("connection", ["new", "idle"])
def test_ends_one_connection(broken, users, place, connection):
    if connection == "idle":
        broken.ask("GET", "/api/users")
    if place == "in-expire":
        users.behave = hangs
    for data in provoking(place):
        # There may be an answer, and the connection may be of further use: then its end is asked for here.
        received = broken.raw(data + b"\r\n" + request("GET", "/health/live", "Connection: close"))
        assert received.endswith(b"}") or received in {b"", b"HTTP/1.1 100 Continue\r\n\r\n"}
    assert broken.process.poll() is None
    users.reset()
    assert broken.ask("GET", "/api/users").status == 200
    eventually(lambda: broken.metric("http_server_active_requests") == 0, within=60)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_that_leaves_before_its_task_runs_is_not_under_way(broken, users, method):
    left = broken.metric(REQUESTS, http_response_status_code="499")
    assert broken.raw(request(method, f"/api/users?{LEAVES}", body=b"abc")) == b""
    assert broken.ask("GET", "/api/users").status == 200
    assert broken.metric("http_server_active_requests") == 0
    assert broken.metric(REQUESTS, http_response_status_code="499") == left + 1
