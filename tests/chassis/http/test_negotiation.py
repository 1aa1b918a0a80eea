"""Accept (RFC 9110): quality, precedence by specificity, and errors that are problems regardless of it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from chassis.http.negotiation import parse, prefers_html, quality

pytestmark = pytest.mark.django_db(databases=["users"])

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        (BROWSER, "text/html"),
        ("application/json;q=0, text/html", "text/html"),
        ("application/json;q=0.1, text/html;q=0.2", "text/html"),
        ("text/html;q=0.2, application/json;q=0.20", "application/json"),
        ("text/html, application/json", "application/json"),
        ("text/html; q=1.0, */*", "text/html"),
        ("*/*, application/json", "application/json"),
        ("text/*, application/json;q=0.9", "text/html"),
        ("*/*;q=1, application/json;q=0", "text/html"),
        ("text/*;q=0, */*", "application/json"),
        ("application/problem+json", "application/json"),
        ("application/problem+json, text/html;q=0.5", "application/json"),
        ("application/*", "application/json"),
        ("APPLICATION/JSON;Q=1", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/json;version=2", "application/json"),
        ('text/plain;a="x,application/json;q=0", application/json', "application/json"),
        ('application/json;profile="x;q=0"', "application/json"),
        ('text/html;a="\\";q=0;";q=0.9, application/json;q=0.5', "text/html"),
        ("nonsense, ;;;, application/json", "application/json"),
        ("*/*, application/json;q=abc", "application/json"),
        ("*/*;q=0.1, text/html;q=2", "application/json"),
        ("text/html;level=1;q=0.9, application/json;q=0.5", "text/html"),
    ],
)
def test_preferred_types(accept, kind):
    answer = APIClient().get("/users", headers={"Accept": accept} if accept else {})

    assert answer.status_code == 200
    assert answer["Content-Type"].partition(";")[0] == kind


@pytest.mark.parametrize(
    "accept",
    ["text/plain", "application/json;q=0", "*/*;q=0", "application/json;q=0, application/*;q=0", "image/*", "nonsense"],
)
def test_an_unavailable_document(accept):
    answer = APIClient().get("/users", headers={"Accept": accept})

    assert answer.status_code == 406
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "accept", ["application/problem+json", "application/json", "*/*", "text/plain", "application/json;q=0"]
)
def test_errors_are_problems_regardless_of_accept(accept):
    for path in ("/users/1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "/users?limit=x", "/nothing"):
        answer = APIClient().get(path, headers={"Accept": accept})
        assert answer.status_code in {400, 404, 406}
        assert answer["Content-Type"] == "application/problem+json"


def test_an_html_page_shows_errors_as_html():
    answer = APIClient().get("/users?limit=x", headers={"Accept": BROWSER})

    assert answer.status_code == 400
    assert answer["Content-Type"].startswith("text/html")


def test_responses_that_depend_on_accept_have_vary():
    assert "Accept" in APIClient().get("/users")["Vary"]


def test_the_format_parameter_takes_precedence():
    assert APIClient().get("/users?format=json", headers={"Accept": BROWSER})["Content-Type"] == "application/json"
    assert APIClient().get("/users?format=yaml").status_code == 404


def test_without_a_preference_it_is_not_html():
    assert [prefers_html(accept) for accept in (None, "", "*/*", "text/html", BROWSER)] == [
        False,
        False,
        False,
        True,
        True,
    ]


@given(st.text(max_size=80) | st.lists(st.sampled_from('*/;,q=01."ab \\'), max_size=40).map("".join))
def test_any_text_is_read(header):
    assert 0 <= quality("application/json", parse(header))[0] <= 1


@pytest.mark.parametrize(
    "header", ['\\"' * 16_000, "a/b" + " " * 31_000 + "x", '"' * 31_000, "a/b;" * 8_000, ";" * 31_000]
)
def test_a_header_of_any_size_is_parsed_in_linear_time(header):
    started = time.thread_time()
    parse(header)
    assert time.thread_time() - started < 0.5, "in quadratic time it would be minutes"
