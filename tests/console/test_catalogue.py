"""The catalogue without a browser: schemas as tables, the runbook's anchors, and the pages without a running system."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.pages.catalogue.events import entries
from console.pages.catalogue.runbook import sections
from console.pages.catalogue.schemas import MOST, fields
from console.sources.events import Description, Event
from console.templatetags.words import code
from services import SERVICES
from services.discovery import ROOT
from tests.waiting import eventually


def schema(name: str) -> dict:
    return json.loads((ROOT / "docs" / "events" / name).read_text())


class TestSchemas:
    def test_nested_fields_have_the_path_of_their_parent(self):
        found = {field.path: field for field in fields(schema("order.created.v1.json"))}
        assert found["items[].quantity"].kind == "integer, minimum 1"
        assert found["items"].kind == "array of object"
        assert found["orderId"].kind == "string uuid"
        assert found["totalAmount"].meaning == "Money, with two decimals."
        assert all(field.required for field in found.values())

    def test_choices_are_shown(self):
        assert {field.path: field.kind for field in fields(schema("payment.completed.v1.json"))}[
            "status"
        ] == "completed | failed"

    def test_a_schema_that_contains_itself_ends(self):
        node = {"properties": {"child": {"$ref": "#/$defs/Node"}, "many": {"items": {"$ref": "#/$defs/Node"}}}}
        assert 0 < len(fields({"$defs": {"Node": node}, **node})) <= MOST

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["$defs", "$ref", "properties", "items", "anyOf", "enum", "type", "required", "a"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=25,
        )
    )
    def test_whatever_the_schema_is(self, anything):
        assert isinstance(fields(anything if isinstance(anything, dict) else {"properties": anything}), list)


class TestEvents:
    def test_an_event_has_its_publishers_readers_and_the_publishers_schema(self):
        def event(**properties: object) -> Event:
            return Event("a.b", "x.a.b", "AB", "", 2, {"properties": properties}, "orders", "x.a.b.orders.dlq")

        one, other = event(id={}, name={}), event(id={})
        [entry] = entries([Description("orders", (), (other,)), Description("users", (one,), ())])
        assert (entry.publishers, entry.readers[0].service, entry.readers[0].reads) == (["users"], "orders", ("id",))
        assert [field.path for field in entry.fields] == ["id", "name"]


class TestRunbook:
    def test_every_anchor_that_its_own_links_name_exists(self):
        text = (ROOT / "docs" / "runbook.md").read_text()
        anchors = {section.anchor for section in sections(text)}
        named = set(re.findall(r"\]\(#([^)]+)\)", text))
        assert named
        assert named <= anchors

    def test_no_text_is_lost(self):
        text = (ROOT / "docs" / "runbook.md").read_text()
        lines = {line for section in sections(text) for line in section.text.splitlines()}
        assert {line for line in text.splitlines() if line.strip() and not re.match(r"#{1,4} ", line)} <= lines


def test_code_is_marked_and_everything_else_is_escaped():
    assert code("reads `a<b` & <i>") == "reads <code>a&lt;b</code> &amp; &lt;i&gt;"


class TestWithoutASystem:
    """A console alone: everything else is away, which is said, and is no error."""

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/map/drawing",
            "/catalogue",
            "/catalogue/cells",
            "/catalogue/api",
            "/catalogue/runbook",
            "/break",
            "/break/states",
        ],
    )
    def test_every_page_is_shown(self, console, path):
        answer = console.get(path)
        assert answer.status == 200, answer.text
        assert "text/html" in answer.headers["Content-Type"]

    def test_the_catalogue_names_every_service(self, console):
        page = console.get("/catalogue").text
        assert all(f'id="service-{service.name}"' in page for service in SERVICES)

    def test_a_service_that_is_away_is_said_to_be(self, console):
        answer = console.get("/catalogue/services/orders")
        assert (answer.status, "cannot be reached" in answer.text) == (200, True)

    @pytest.mark.parametrize("path", ["/catalogue/services/x", "/catalogue/services/%00", "/map/nothing"])
    def test_what_is_unknown(self, console, path):
        assert console.get(path).status == 404

    def test_the_document_of_a_gateway_that_is_away(self, console):
        answer = console.get("/catalogue/api/openapi.json")
        assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")

    def test_only_swagger_ui_may_have_inline_styles(self, console):
        for path in ("/", "/catalogue", "/break"):
            assert "unsafe-inline" not in console.get(path).headers["Content-Security-Policy"]
        policy = console.get("/catalogue/api").headers["Content-Security-Policy"]
        assert "style-src 'self' 'unsafe-inline'" in policy
        assert "script" not in policy
        assert "default-src 'self'" in policy

    def test_swagger_ui_is_served_from_here(self, console):
        page = console.get("/catalogue/api").text
        files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
        assert any("swagger-ui-bundle" in file for file in files)
        assert {file: console.get(file).status for file in files} == dict.fromkeys(files, 200)

    def test_nothing_can_be_broken_and_the_page_says_why(self, console):
        assert "was not started by it" in console.get("/break").text
        answer = console.ask("/break/kill", "POST", b"target=orders", **console.authorization, HX_Request="true")
        assert (answer.status, "was not started by it" in answer.text) == (200, True)

    def test_breaking_takes_a_post(self, console):
        for path in ("/break/kill", "/break/poison", "/break/visit"):
            answer = console.get(path)
            assert (answer.status, answer.headers["Allow"], "GET is not possible" in answer.text) == (405, "POST", True)

    def test_an_unknown_action(self, console):
        assert console.ask("/break/explode", "POST", b"target=orders", **console.authorization).status == 404

    def test_the_map_says_what_is_down(self, console):
        eventually(lambda: 'class="node web bad"' in console.get("/").text)
