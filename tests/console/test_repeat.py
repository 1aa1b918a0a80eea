"""The command that repeats a request: curl runs it, and a server says what it received."""

import http.server
import json
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from html import unescape

import pytest

from tests.console import spans
from tests.console.running import running


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.asked.append((self.command, self.path))
        self.send_response(200)
        self.send_header("Content-Length", "100000")  # a client that waits for the body of HEAD waits forever
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b" " * 99_998 + b"{}")

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *args):
        pass


@contextmanager
def serving():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def servers():
    with serving() as gateway, serving() as users:
        yield {"gateway": gateway, "users": users}


@pytest.fixture(scope="module")
def console(servers):
    processes = [
        {"name": name, "service": name, "kind": "gateway" if name == "gateway" else "web", "url": server.url}
        for name, server in servers.items()
    ]
    with running(CONSOLE_PROCESSES=json.dumps(processes)) as console:
        yield console


def command_of(console, trace: str) -> tuple[str, str]:
    """The command, and the whole answer."""
    answer = console.get(f"/stories/{trace}/repeat")
    assert answer.status == 200
    found = re.search(r"<code>(.*?)</code>", answer.text, re.DOTALL)
    return unescape(found[1]) if found else "", unescape(answer.text)


def exported(console, *origins_and_spans) -> None:
    for service, one in origins_and_spans:
        role = "gateway" if service == "gateway" else "web"
        assert console.export(spans.request(one, service=service, role=role).SerializeToString()).status == 200


def asked(console, servers, trace: str) -> tuple[str, str, str]:
    """Run the command of a story: which server was asked, and for what."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    for server in servers.values():
        server.asked.clear()
    command, _ = command_of(console, trace)
    subprocess.run(["sh", "-c", command], check=True, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # The console itself reads the description of the API.
    [found] = [(name, *one) for name, server in servers.items() for one in server.asked if one[1] != "/api/schema"]
    return found


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/api/users", "/api/users"),
        ("HEAD", "/api/users", "/api/users"),
        ("POST", "/api/users", "/api/users"),
        ("DELETE", "/api/users/1", "/api/users/1"),
        ("OPTIONS", "/api/orders", "/api/orders"),
        ("GET", "/api/{a,b}[1-3]", "/api/%7Ba,b%7D%5B1-3%5D"),
        ("GET", "/api/../a%2Fb/.", "/api/../a%2Fb/."),
        ("GET", "/api/a b'\"?#$(id)\x1b[31m\n\u202e", "/api/a%20b'%22%3F%23$(id)%1B%5B31m%0A%E2%80%AE"),
    ],
)
def test_curl_sends_the_same_request(console, servers, method, path, sent):
    trace = spans.new_trace()
    exported(console, ("gateway", spans.span(trace, attributes=spans.http(method, "/api/x", **{"url.path": path}))))
    assert asked(console, servers, trace) == ("gateway", method, sent)


def test_a_page_of_the_gateway_that_asks_services(console, servers):
    """The services' spans have their own routes and paths; the gateway's is the one that the client sent."""
    trace = spans.new_trace()
    own = spans.span(trace, attributes=spans.http("GET", "/api/asyncapi", **{"url.path": "/api/asyncapi"}))
    other = spans.http("GET", "/asyncapi", **{"url.path": "/asyncapi"})
    exported(console, ("users", spans.span(trace, parent=own.span_id.hex(), attributes=other)), ("gateway", own))
    assert asked(console, servers, trace) == ("gateway", "GET", "/api/asyncapi")


def test_a_request_that_the_gateway_has_not_recorded_goes_to_the_service(console, servers):
    trace = spans.new_trace()
    exported(console, ("users", spans.span(trace, attributes=spans.http("GET", "/users", **{"url.path": "/users"}))))
    assert "sent to the service users directly" in command_of(console, trace)[1]
    assert asked(console, servers, trace) == ("users", "GET", "/users")


def test_a_route_stands_for_a_path_that_is_not_recorded(console, servers):
    trace = spans.new_trace()
    exported(console, ("users", spans.span(trace, attributes=spans.http("GET", "/users/<uuid:pk>"))))
    assert "replace VALUE" in command_of(console, trace)[1]
    assert asked(console, servers, trace) == ("users", "GET", "/users/VALUE")


@pytest.mark.parametrize("method", ["_OTHER", "GET; touch /tmp/x", "$(id)"])
def test_a_method_that_is_none_is_not_part_of_the_command(console, method):
    trace = spans.new_trace()
    exported(console, ("gateway", spans.span(trace, attributes=spans.http(method, "/api", **{"url.path": "/api"}))))
    command, answer = command_of(console, trace)
    assert command.startswith("curl -i -X METHOD \\\n")
    assert "replace METHOD" in answer


def test_a_story_without_a_request_has_no_command(console):
    trace = spans.new_trace()
    exported(console, ("users", spans.span(trace, "process", kind="CONSUMER")))
    command, answer = command_of(console, trace)
    assert command == ""
    assert "did not begin with a request" in answer
