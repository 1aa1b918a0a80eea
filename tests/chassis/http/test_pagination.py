"""Cursors over real rows, many of them with the same timestamp."""

import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from chassis.http.pagination import CURSOR, EPOCH, Cursor
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"])

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def rows():
    # Groups of five of one instant, as a batch of events makes them.
    users = [
        User(email=f"{n}@example.org", name=str(n), created_at=NOW + timedelta(microseconds=n // 5)) for n in range(23)
    ]
    return [
        str(u.id) for u in sorted(User.objects.bulk_create(users), key=lambda u: (u.created_at, u.id), reverse=True)
    ]


def walk(start, link):
    client, pages, url = APIClient(), [], start
    while url:
        page = client.get(url).json()
        pages.append([item["id"] for item in page["results"]])
        url = page[link]
    return pages


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 22, 23, 24, 100])
def test_all_rows_once_newest_first_and_back(rows, limit):
    pages = walk(f"/users?limit={limit}", "next")
    assert [id for page in pages for id in page] == rows
    assert all(len(page) == limit for page in pages[:-1])

    client, url = APIClient(), f"/users?limit={limit}"
    while url:
        last, url = url, client.get(url).json()["next"]
    back = walk(last, "previous")
    assert [id for page in reversed(back) for id in page] == rows


def test_rows_that_are_added_move_nothing(rows):
    first = APIClient().get("/users?limit=10").json()
    User.objects.create(email="new@example.org", name="new", created_at=NOW + timedelta(days=1))
    second = APIClient().get(first["next"]).json()

    assert [item["id"] for item in first["results"] + second["results"]] == rows[:20]
    newest = APIClient().get(second["previous"]).json()
    assert [item["id"] for item in newest["results"]] == rows[:10]
    assert len(APIClient().get(newest["previous"]).json()["results"]) == 1


def test_the_row_of_a_cursor_may_be_deleted(rows):
    first = APIClient().get("/users?limit=10").json()
    User.objects.filter(pk__in=rows[5:10]).delete()

    assert [item["id"] for item in APIClient().get(first["next"]).json()["results"]] == rows[10:20]


def test_an_empty_list():
    assert APIClient().get("/users").json() == {"results": [], "next": None, "previous": None}


def test_fifty_by_default(rows):
    User.objects.bulk_create(User(email=f"x{n}@example.org", name="x") for n in range(40))

    assert len(APIClient().get("/users").json()["results"]) == 50


@pytest.mark.parametrize("limit", ["0", "-1", "101", "ten", "", "1.5", "%00", "٣", "9" * 5000, "+5", " 5"])
def test_an_invalid_limit(limit):
    answer = APIClient().get(f"/users?limit={limit}")

    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["limit"]


@pytest.mark.parametrize(
    "cursor", ["", "x", "%00", "é", "cD0yMDI2", "o" + "f" * 45, "o" + "g" * 46, "o" + "0" * 46 + "%0a", "x" * 9999]
)
def test_an_invalid_cursor(cursor):
    answer = APIClient().get(f"/users?cursor={cursor}&limit=0")

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert set(answer.json()["errors"]) == {"cursor", "limit"}


@pytest.mark.parametrize("cursor", ["o" + "0" * 46, "n" + "0" * 46, "o" + "f" * 46, "n" + "f" * 46])
def test_any_valid_cursor_is_accepted(rows, cursor):
    assert APIClient().get(f"/users?cursor={cursor}").status_code == 200


microseconds = st.integers(min_value=0, max_value=2**56 - 1)


@given(microseconds, st.uuids(), st.booleans())
def test_cursors_there_and_back(since, id, newer):
    cursor = Cursor(EPOCH + timedelta(microseconds=since), id, newer)

    assert CURSOR.match(cursor.encode())
    assert Cursor.decode(cursor.encode()) == cursor


def test_links_keep_the_other_parameters_and_the_clients_address(rows):
    headers = {"X-Forwarded-Prefix": "/api", "X-Forwarded-Host": "localhost:8000"}
    next_page = APIClient().get("/users?limit=2&format=json", headers=headers).json()["next"]

    url = urlsplit(next_page)
    assert (url.netloc, url.path) == ("localhost:8000", "/api/users")
    assert url.query.startswith("cursor=o")
    assert "limit=2" in url.query
    assert uuid.UUID(url.query[len("cursor=o") + 14 :][:32]).version == 7
