"""The page Break it, of a console with a control socket as `make up` has it."""

import json
import socketserver
import threading

import pytest

from tests.console.running import running


class Control(socketserver.StreamRequestHandler):
    """There is one target, to which nothing can be done."""

    def handle(self):
        if json.loads(self.rfile.readline())["action"] == "list":
            targets = [{"name": "orders", "state": "running", "seconds_left": 0}]
            answer = {"ok": True, "result": {"targets": targets, "done": []}}
        else:
            answer = {"ok": False, "error": "orders <b>cannot</b> be frozen now" + "." * 5_000}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("control") / "s")
    with socketserver.ThreadingUnixStreamServer(path, Control) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with running(CONSOLE_CONTROL=path) as console:
            yield console
        server.shutdown()
        thread.join()


def freeze(console, **headers):
    form = {"Content_Type": "application/x-www-form-urlencoded", **console.authorization}
    return console.ask("/break/freeze", "POST", b"target=orders&seconds=5", **form, **headers)


def test_what_came_of_it_without_a_script(console):
    answer = freeze(console)
    assert answer.status == 302
    page = console.get(answer.headers["Location"]).text
    assert '<p class="failure">orders &lt;b&gt;cannot&lt;/b&gt; be frozen now' in page


def test_what_came_of_it_in_the_page(console):
    assert "be frozen now" in freeze(console, HX_Request="true").text


@pytest.mark.parametrize("query", ["failed=Call+555", "said=Call+555", "said=", "said=Call%00:x:y"])
def test_a_link_cannot_make_it_say_anything_else(console, query):
    answer = console.get(f"/break?{query}")
    assert answer.status == 200
    assert "Freeze orders" in answer.text
    assert "Call" not in answer.text


def test_a_changed_message_is_not_shown(console):
    location = freeze(console).headers["Location"]
    assert "be frozen now" in console.get(location).text
    for changed in (location.replace("said=", "said=x"), location[:-1] + ("a" if location[-1] != "a" else "b")):
        assert "be frozen now" not in console.get(changed).text


def test_nothing_is_said_to_be_lost_before_it_is(console):
    page = console.get("/").text
    [notice] = [line for line in page.splitlines() if "data-lost" in line]
    assert notice.strip().endswith(" hidden></p>")
