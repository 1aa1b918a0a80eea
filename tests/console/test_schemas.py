"""Checking payloads against the schemas of events."""

import json
from pathlib import Path

import pytest

from console import schemas

FILES = sorted((Path(__file__).parent.parent.parent / "docs" / "events").glob("*.json"))
USER = {"userId": "u1", "email": "ada@example.org", "name": "Ada", "createdAt": "2026-11-30T07:00:00Z"}


@pytest.fixture
def schema() -> dict:
    return json.loads(next(file for file in FILES if file.name.startswith("user.created")).read_text())


def encoded(**changes) -> bytes:
    return json.dumps({name: value for name, value in {**USER, **changes}.items() if value != "missing"}).encode()


def test_a_valid_one_names_its_schema(schema):
    assert schemas.check(encoded(), schema) == schemas.Checked("valid", "urn:events:user.created:v1")
    assert schemas.check(encoded(more=1), schema).verdict == "valid"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (encoded(email="missing"), "payload: 'email' is a required property"),
        (encoded(email=7), 'email: violates type: "string"'),
        (b"[]", 'payload: violates type: "object"'),
        (b"\xff", "it is not JSON"),
        (b"[" * 200_000, "it is not JSON"),
        (None, "there is no payload"),
    ],
)
def test_an_invalid_one_says_where_and_why(schema, value, problem):
    checked = schemas.check(value, schema)
    assert checked.verdict == "invalid"
    assert problem in checked.problems


def test_problems_contain_no_values(schema):
    checked = schemas.check(encoded(userId=["ada@example.org"], name={"secret": "ada@example.org"}), schema)
    assert len(checked.problems) == 2
    assert "ada@example.org" not in str(checked.problems)


def test_what_is_not_checked_says_why(schema):
    assert schemas.check(b" " * 2_000_000, schema).verdict == "unchecked"
    assert schemas.check(encoded(), {"$id": "x", "type": "nonsense"}).verdict == "unchecked"
    assert schemas.check(encoded(), {"$id": "x", "$ref": "#"}).verdict == "unchecked"


def test_the_schemas_of_all_events_can_be_used():
    assert FILES
    for file in FILES:
        assert schemas.check(b"{}", json.loads(file.read_text())).verdict == "invalid"
