"""The pages of stories of a running console that gets spans and log lines, and whose services do not run."""

import json
import re
import socket

import pytest

from console.pages.stories import repeat
from tests.console import spans
from tests.console.running import TOKEN
from tests.waiting import eventually


def export(console, *some, service="gateway", role="gateway"):
    assert console.export(spans.request(*some, service=service, role=role).SerializeToString()).status == 200


def story(console, route="/api/users", status=200, request_id="r-1", took=5_000_000, **more):
    """A story of one request; returns its trace id."""
    trace = spans.new_trace()
    begun = next(spans._clock)
    attributes = spans.http("GET", route, status, **{"request.id": request_id})
    export(console, spans.span(trace, f"GET {route}", attributes=attributes, begun=begun, ended=begun + took, **more))
    return trace


def log(console, **fields):
    """A line in the gateway's log, as it writes them."""
    line = {"level": "info", "timestamp": "2026-11-30T07:24:00Z", **fields}
    with (console.logs / "gateway.log").open("a") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")


def listed(console, query=""):
    """The ids of the stories in the list."""
    answer = console.get(f"/stories{query}")
    assert answer.status == 200
    return re.findall(r'id="to-([0-9a-f]{32})"', answer.text)


class TestList:
    def test_the_filters_select(self, console):
        ok = story(console, "/api/users", request_id="filter-ok")
        slow = story(console, "/api/orders", request_id="filter-slow", took=900_000_000)
        failed = story(console, "/api/orders", 503, "filter-failed", error="")
        rejected = story(console, "/api/orders", 404, "filter-rejected")
        log(console, event="curious", trace_id=ok)
        among = {ok, slow, failed, rejected}

        def found(query):
            return set(listed(console, f"?{query}&id=filter")) & among

        assert found("") == among
        assert found("state=failed") == {failed}
        assert found("state=rejected") == {rejected}
        assert found("status=5xx") == {failed}
        assert found("status=404") == {rejected}
        assert found("route=ORDERS&slower=800") == {slow}
        assert found("service=gateway") == among
        assert found("service=payments") == set()
        assert found("text=Filter-Slow") == {slow}
        eventually(lambda: found("text=curious") == {ok}, what="the text of a log line")
        assert set(listed(console, f"?id={slow[:20]}")) == {slow}

    def test_values_that_mean_nothing_are_named_and_ignored(self, console):
        trace = story(console)
        answer = console.get(
            "/stories?state=odd&status=9xx&slower=a+lot&before=x&service=%00&text=%F0%9F%98%80&pause=1"
        )
        assert answer.status == 200
        for what in ("odd", "9xx", "a lot"):
            assert f"{what}" in answer.text
        assert trace in listed(console, "?state=odd")

    def test_older_ones_are_on_further_pages(self, console):
        traces = [story(console, request_id=f"paged-{n}") for n in range(130)]
        first = console.get("/stories?id=paged")
        assert re.findall(r'id="to-([0-9a-f]{32})"', first.text) == traces[:29:-1]
        [older] = re.findall(r'href="/stories\?(id=paged&amp;before=\d+)"', first.text)
        assert listed(console, f"?{older.replace('&amp;', '&')}") == traces[29::-1]

    def test_htmx_gets_only_the_result(self, console):
        assert "<html" not in console.get("/stories", HX_Request="true", HX_Target="stories").text
        assert "<html" in console.get("/stories", HX_Request="true", HX_History_Restore_Request="true").text

    def test_the_stream_sends_a_story_when_it_ends(self, console):
        with socket.create_connection(("127.0.0.1", console.port), timeout=60) as connection:
            head = f"GET /stories/stream?id=streamed HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            connection.sendall(head.encode())
            stream = connection.makefile("rb")
            _until(stream, b"event: rows")
            other, trace = story(console, request_id="another"), story(console, request_id="streamed-1")
            assert other not in _until(stream, f'id="to-{trace}"'.encode())


def _until(stream, text):
    """All that is read up to the line with this text; the connection's time limit ends the wait."""
    read = b""
    while text not in read:
        line = stream.readline()
        assert line, "the stream has ended"
        read += line
    return read.decode()


class TestStory:
    def test_its_page_has_the_diagram_and_its_parts_tell_that_services_are_away(self, console):
        trace = story(console, request_id="parts-1")
        page = console.get(f"/stories/{trace}")
        assert page.status == 200
        assert 'id="sequence"' in page.text
        assert "<style" not in page.text
        assert "style=" not in page.text
        for part in ("state", "events", "steps", "lines", "repeat"):
            answer = console.get(f"/stories/{trace}/{part}")
            assert answer.status == 200, part
        for part in ("state", "events"):
            assert "users" in console.get(f"/stories/{trace}/{part}").text

    def test_it_is_found_by_its_request_and_has_a_permalink(self, console):
        trace = story(console, request_id="permalink-1")
        assert f'href="/stories/{trace}"' in console.get("/stories/permalink-1").text
        answer = console.get("/stories/find?id=permalink-1")
        assert (answer.status, answer.headers["Location"]) == (302, f"/stories/{trace}")

    def test_the_details_of_a_span_and_of_folded_ones(self, console):
        trace = spans.new_trace()
        root = spans.span(trace, "POST users", attributes=spans.http("POST", "/users"))
        text = {"db.system.name": "postgresql", "db.namespace": "userdb", "db.query.text": "SELECT <1>"}
        many = [
            spans.span(trace, "SELECT", kind="CLIENT", parent=root.span_id.hex(), attributes=text) for _ in range(40)
        ]
        export(console, root, *many, service="users", role="web")
        details = console.get(f"/stories/{trace}/spans/{many[0].span_id.hex()}")
        assert "SELECT &lt;1&gt;" in details.text
        [fold] = re.findall(r'data-fold="([0-9a-f]{16})"', console.get(f"/stories/{trace}").text)
        assert "40 times SELECT" in console.get(f"/stories/{trace}/folds/{fold}").text
        opened = console.get(f"/stories/{trace}?open={fold}&span={many[0].span_id.hex()}").text
        assert 'data-fold="' not in opened
        assert "SELECT &lt;1&gt;" in opened

    def test_one_that_was_not_recorded_is_shown_by_its_lines(self, console):
        trace = spans.new_trace()
        log(
            console,
            event="request",
            trace_id=trace,
            request_id="unsampled",
            method="GET",
            route="/api/users",
            status=200,
            duration_ms=1.5,
            logger="access",
        )
        page = eventually(lambda: (answer := console.get("/stories/unsampled")).status == 200 and answer.text)
        assert "No spans of this story are in memory" in page
        assert "GET /api/users" in page

    def test_the_export_has_everything_and_is_a_file(self, console):
        trace = story(console, request_id="export-1")
        answer = console.get(f"/stories/{trace}.json?events=1&download=1")
        assert answer.headers["Content-Disposition"] == f'attachment; filename="story-{trace}.json"'
        content = answer.json()
        assert (content["trace_id"], content["request_id"], len(content["span_list"])) == (trace, "export-1", 1)
        assert content["event_list"] == []
        assert any(problem.startswith("users:") for problem in content["problems"])


class TestBadInput:
    @pytest.mark.parametrize(
        "path",
        [
            "/stories/unknown",
            "/stories/%00",
            "/stories/" + "x" * 3_000,
            "/stories/unknown/spans/unknown",
            "/stories/unknown/events",
            "/stories/unknown/state",
            "/stories/unknown/repeat",
            "/stories/unknown.json",
            "/stories/{known}/spans/unknown",
            "/stories/{known}/folds/%F0%9F%98%80",
        ],
    )
    def test_what_is_unknown_is_said_to_be(self, console, path):
        answer = console.get(path.replace("{known}", story(console)))
        assert answer.status == 404
        assert "Not found" in answer.text

    @pytest.mark.parametrize("given", ["%00", "a b", "<script>", "x" * 200, "%F0%9F%98%80"])
    def test_an_impossible_id_is_refused(self, console, given):
        answer = console.get(f"/stories/find?id={given.replace(' ', '+')}")
        assert answer.status == 400
        assert "An id is 1 to 128 letters" in answer.text
        assert "<script>" not in answer.text

    def test_an_unknown_id_is_not_found_and_services_that_are_away_are_named(self, console):
        answer = console.get("/stories/find?id=never-seen")
        assert answer.status == 200
        assert "nothing is known about never-seen; users:" in answer.text

    @pytest.mark.parametrize(
        "form",
        ["", "service=users", "service=users&position=x", "service=nobody&position=1", "topic=t&partition=-1&offset=0", "topic=%00&partition=0&offset=0"],
    )  # fmt: skip
    def test_an_impossible_event_is_not_revealed(self, console, form):
        trace = story(console)
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        answer = console.ask(f"/stories/{trace}/events/reveal", "POST", form.encode(), **console.authorization, **kind)
        assert answer.status in (200, 404)
        assert answer.status == 404 or "cannot be read" in answer.text

    def test_personal_data_is_not_revealed_by_a_link(self, console):
        trace = story(console)
        assert console.get(f"/stories/{trace}/events/reveal").status == 405
        assert console.get(f"/stories/{trace}/repeat/reveal").status == 405


class TestRepeat:
    DOCUMENT = {
        "paths": {
            "/api/users": {"post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/User"}}}}}},
            "/api/users/{id}": {"put": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Loop"}}}}}},
        },
        "components": {"schemas": {"User": {"required": ["email"], "properties": {"email": {}, "id": {"readOnly": True}}}, "Loop": {"$ref": "#/components/schemas/Loop"}}},
    }  # fmt: skip

    def test_the_description_of_a_body_is_found_by_the_path(self):
        schema, example = repeat._described(self.DOCUMENT, "post", "/api/users")
        assert (list(repeat._properties(self.DOCUMENT, schema)), example) == (["email", "id"], {})
        assert repeat._described(self.DOCUMENT, "post", "/api/users/1") == ({}, {})

    def test_a_description_that_refers_to_itself_ends(self):
        assert repeat._described(self.DOCUMENT, "put", "/api/users/1")[0] == {"$ref": "#/components/schemas/Loop"}

    @pytest.mark.parametrize("document", [None, [], {}, {"paths": None}])
    def test_no_description_is_no_body(self, document):
        assert repeat._described(document, "post", "/api/users") == ({}, {})
