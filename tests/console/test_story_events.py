"""Events of a story as they are shown, and the services' answers that they come from."""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest

from console.payloads import LONGEST
from tests.console import spans
from tests.console.running import running


class Service(http.server.BaseHTTPRequestHandler):
    """A service's endpoints for staff, which answer what a test wants."""

    answers: dict = {}
    asked: list = []

    def do_GET(self):
        self.asked.append((self.path, dict(self.headers)))
        status, body = next(
            (answer for path, answer in self.answers.items() if self.path.startswith(path)), (404, b'{"detail": "no"}')
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def serving():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def console():
    with serving() as url:
        kinds = {"users": "web", "gateway": "gateway"}
        processes = [{"name": one, "service": one, "kind": kind, "url": url} for one, kind in kinds.items()]
        with running(CONSOLE_PROCESSES=json.dumps(processes), OPERATOR_TOKEN="o" * 40) as console:
            yield console


@pytest.fixture
def story(console):
    """The trace id of a story whose request is `r-1`."""
    trace = spans.new_trace()
    root = spans.span(
        trace, "POST /api/users", attributes=spans.http("POST", "/api/users", 201, **{"request.id": "r-1"})
    )
    console.export(spans.request(root, service="gateway", role="gateway").SerializeToString())
    Service.asked.clear()
    return trace


def described(path):
    """The description of an API with one request."""
    body = {"content": {"application/json": {"schema": {"properties": {"name": {"type": "string"}}}}}}
    return {"paths": {path: {"post": {"requestBody": body}}}}


def answered(story, content, **more):
    """The service has one row for the story, with this payload."""
    row = {
        "position": 7,
        "event_id": "e-1",
        "topic": "user.created",
        "key": "u-1",
        "request_id": "r-1",
        "trace_id": story,
    }
    times = {"created_at": "2026-11-30T07:28:01Z", "sent_at": None}
    Service.answers = {
        "/staff/story": (200, json.dumps({"service": "users", "outbox": [{**row, **times}]}).encode()),
        "/api/schema": (200, json.dumps(described("/api/users")).encode()),
        "/staff/outbox/7": (
            200,
            json.dumps({**row, "state": "unsent", "payload": content, "headers": [["ce_id", "e-1"]], **more}).encode(),
        ),
    }


class TestFromServices:
    def test_a_huge_payload_is_cut_and_its_size_is_said(self, console, story):
        answered(
            story,
            {"size": 10_000_000, "encoding": "text", "content": "x" * 1_048_576, "masked": True, "truncated": True},
        )
        page = console.get(f"/stories/{story}/events").text
        assert "text, 10000000 bytes; only its beginning is shown" in page
        assert len(page) < 2 * LONGEST
        assert "Show personal data" in page

    def test_who_asks_for_personal_data_is_told_to_the_service(self, console, story):
        answered(story, {"size": 2, "encoding": "json", "content": "{}", "masked": True, "truncated": False})
        assert "Show personal data" in console.get(f"/stories/{story}/events").text
        assert not any("reveal" in path for path, _ in Service.asked)
        form = {"Content_Type": "application/x-www-form-urlencoded", **console.authorization}
        answer = console.ask(f"/stories/{story}/events/reveal", "POST", b"service=users&position=7", **form)
        assert "It is logged that" in answer.text
        path, headers = Service.asked[-1]
        assert path == "/staff/outbox/7?reveal=1"
        assert headers["X-Operator"].endswith("(console)")
        assert headers["Authorization"] == f"Bearer {'o' * 40}"

    @pytest.mark.parametrize("part", ["events/reveal", "repeat/reveal"])
    def test_it_is_the_name_that_was_given_in_this_browser(self, console, story, part):
        content = {"size": 2, "encoding": "json", "content": "{}", "masked": True, "truncated": False}
        answered(story, content)
        form = {"Content_Type": "application/x-www-form-urlencoded", **console.authorization}
        cookie = f"console_operator_{console.port}=Ada%20%C5%81ovelace"
        answer = console.ask(f"/stories/{story}/{part}", "POST", b"service=users&position=7", Cookie=cookie, **form)
        assert answer.status == 200
        [headers] = [headers for path, headers in Service.asked if path == "/staff/outbox/7?reveal=1"]
        assert headers["X-Operator"].encode("latin-1").decode() == "Ada Łovelace"
        if part == "events/reveal":
            assert "It is logged that Ada Łovelace has seen it" in answer.text

    def test_a_key_that_cannot_be_shown_is_escaped(self, console, story):
        content = {"size": 2, "encoding": "json", "content": "{}", "masked": True, "truncated": False}
        answered(story, content, key="\x1b[31mRED\u202e\x00" + "k" * 1_000)
        page = console.get(f"/stories/{story}/events").text
        assert "\\x1b[31mRED\\u202e\\x00kkk" in page
        assert "k" * 300 not in page

    def test_an_event_of_another_story_is_not_shown(self, console, story):
        content = {"size": 2, "encoding": "json", "content": '{"a":"secret"}', "masked": False, "truncated": False}
        answered(story, content, trace_id="0" * 32, request_id="another")
        form = {"Content_Type": "application/x-www-form-urlencoded", **console.authorization}
        answer = console.ask(f"/stories/{story}/events/reveal", "POST", b"service=users&position=7", **form)
        assert "belongs to another story" in answer.text
        assert "secret" not in answer.text

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (500, b"<html>"),
            (200, b"not JSON"),
            (200, b"[]"),
            (200, b'{"service": 1}'),
            (503, b'{"detail": "the database"}'),
            (401, b""),
        ],
    )
    def test_an_odd_answer_is_a_message(self, console, story, status, body):
        Service.answers = {"/staff/story": (status, body)}
        for part in ("events", "state", "repeat"):
            answer = console.get(f"/stories/{story}/{part}")
            assert answer.status == 200
        assert "users" in console.get(f"/stories/{story}/events").text

    @pytest.mark.parametrize(
        ("status", "body"), [(200, b"[]"), (200, b'{"trace_id": "x"}'), (200, b"null"), (500, b"{}"), (200, b"")]
    )
    def test_an_odd_row_is_a_message(self, console, story, status, body):
        answered(story, {})
        Service.answers["/staff/outbox/7"] = (status, body)
        answer = console.get(f"/stories/{story}/events")
        assert answer.status == 200
        assert "It cannot be read" in answer.text
