"""Redriving and discarding in the console: what is confirmed is what the preview showed."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.console.running import Answer, running
from tests.waiting import eventually

GROUP = "0123456789abcdef"
UP_TO = {"user.created.orders.dlq": {"0": 8, "1": 0}}


RAW = "\x1b[31mRED]0;owned\u202e"


def letter(number: int) -> dict:
    return {
        "id": f"d-{number}",
        "at": None,
        "topic": "user.created",
        "partition": "0",
        "offset": "1",
        "key": RAW,
        "error": RAW,
    }


class Service(http.server.BaseHTTPRequestHandler):
    """A service's endpoints for staff, with `unresolved` dead letters. It records the bodies that it receives."""

    unresolved = 0
    bodies: list = []

    def do_GET(self):
        group = {"id": GROUP, "topic": "user.created", "error_type": RAW, "error": RAW, "place": RAW, "count": 1}
        payload = {"size": 2, "encoding": "json", "content": "{}", "masked": False, "truncated": False}
        if "/d-" in self.path:
            self.answer(letter(1) | {"payload": payload, "headers": [[RAW, RAW]], "traceback": RAW, "event_id": RAW})
        else:
            self.answer({"groups": [group | {"members": [letter(1)]}], "total": 1, "partly": False})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        if body.get("dry_run"):
            shown = [letter(number) for number in range(self.unresolved)]
            answer = {"count": len(shown), "results": shown, "forgotten": [], "up_to": UP_TO}
        else:
            answer = {
                "done": self.unresolved,
                "total": self.unresolved,
                "refused": {},
                "forgotten": [],
                "finished": True,
            }
        self.answer(answer)

    def answer(self, answer):
        text = json.dumps(answer).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def console() -> Iterator:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        process = [{"name": "orders", "service": "orders", "kind": "web", "url": url}]
        with running(CONSOLE_PROCESSES=json.dumps(process), OPERATOR_TOKEN="o" * 40) as console:
            yield console
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def forget():
    Service.bodies.clear()


def send(console, **fields: str) -> Answer:
    form = {"Content_Type": "application/x-www-form-urlencoded", **console.authorization}
    return console.ask("/dead-letters/orders/decide", "POST", urlencode(fields).encode(), **form)


def previewed(console, **fields: str) -> Answer:
    """The page to which a choice leads."""
    answer = send(console, **fields)
    assert answer.status == 302
    return console.get(answer.headers["Location"])


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of the preview."""
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: value.replace("&quot;", '"') for name, value in fields}


def ended(console, confirmed: Answer) -> str:
    """The page of the run, once it has ended."""
    assert confirmed.status == 302, confirmed.text

    def over() -> str:
        page = console.get(confirmed.headers["Location"]).text
        return "" if "every 500ms" in page else page

    return eventually(over)


@pytest.mark.parametrize("action", ["redrive", "discard"])
def test_a_group_is_decided_about_as_it_was_shown(console, action):
    Service.unresolved = 8
    preview = previewed(console, action=action, group=GROUP)
    assert preview.status == 200
    page = ended(console, send(console, **hidden(preview.text), confirmed="1", operator="me"))
    assert Service.bodies[-1]["up_to"] == UP_TO
    assert f"8 of 8 {action}" in page
    assert 'class="state good"' in page


@pytest.mark.parametrize("up_to", [None, "", "null", "[]", "{", "7"])
def test_without_a_preview_a_group_is_only_shown(console, up_to):
    Service.unresolved = 9
    more = {} if up_to is None else {"up_to": up_to}
    answer = send(console, action="discard", group=GROUP, confirmed="1", operator="me", **more)
    assert answer.status == 400
    assert all(body.get("dry_run") for body in Service.bodies)


def test_what_others_have_resolved_since_the_preview_is_said(console):
    Service.unresolved = 8
    fields = hidden(previewed(console, action="redrive", group=GROUP).text)
    Service.unresolved = 5
    page = ended(console, send(console, **fields, confirmed="1", operator="me"))
    assert "5 of 5 redriven" in page
    assert "3 of those that were shown were not unresolved any more" in page
    assert 'class="state good"' not in page


def test_a_limit_is_no_loss(console):
    Service.unresolved = 8
    fields = hidden(previewed(console, action="redrive", group=GROUP).text)
    Service.unresolved = 2
    page = ended(console, send(console, **fields, limit="2", confirmed="1", operator="me"))
    assert "not unresolved any more" not in page


def test_one_that_was_resolved_elsewhere_is_not_offered(console):
    Service.unresolved = 0
    preview = previewed(console, action="redrive", id="d-1")
    assert "this dead letter was redriven or discarded before" in preview.text
    assert "<button" not in preview.text
    page = ended(console, send(console, action="redrive", id="d-1", confirmed="1", operator="me"))
    assert "1 of those that were shown was not unresolved any more" in page
    assert 'class="state good"' not in page


def test_characters_that_cannot_be_shown_are_escaped(console):
    Service.unresolved = 2
    pages = [
        previewed(console, action="redrive", group=GROUP).text,
        *(
            console.get(f"/dead-letters{path}").text
            for path in ("?full=1", f"/orders/groups/{GROUP}", f"/orders/groups/{GROUP}?key=%1B[31m", "/orders/d-1")
        ),
    ]
    for page in pages:
        assert "\\x1b[31m" in page
        assert not set(page) & set(RAW) - set(RAW[1:-1])


def test_a_preview_that_is_forgotten_says_so(console):
    answer = console.get("/dead-letters/previews/0123")
    assert answer.status == 404
    assert "This preview is not known" in answer.text
