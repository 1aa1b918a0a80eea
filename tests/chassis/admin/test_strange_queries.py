"""No query and no id makes a page of the admin fail: every list of both services, with a real process and login."""

import http.client
import re
import sys
from urllib.parse import quote, urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving import database, gunicorn, run

ROOT = ("root", "correct horse battery staple")

LISTS = {
    "users": ["users/user", "messaging/outboxevent", "messaging/inboxevent", "auth/user", "auth/group"],
    "orders": [
        "orders/order", "messaging/outboxevent", "messaging/inboxevent", "messaging/deadletter", "messaging/story",
        "auth/user", "auth/group",
    ],
}  # fmt: skip
FIELDS = {
    "users/user": ["id", "pk", "email", "name", "created_at"],
    "orders/order": ["id", "user_id", "items", "total_amount", "status", "payment_id", "is_welcome", "created_at"],
    "messaging/outboxevent": [
        "position", "pk", "event_id", "topic", "key", "payload", "headers", "created_at", "sent_at", "parked_at", "request_id",
        "discarded_by", "state",
    ],
    "messaging/inboxevent": ["event_id", "pk", "topic", "key", "consumed_at", "request_id"],
    "messaging/deadletter": ["topic", "reason", "key", "id", "since", "until"],
    "messaging/story": ["id"],
    "auth/user": ["id", "username", "last_login", "is_staff", "groups", "groups__id", "user_permissions__codename"],
    "auth/group": ["id", "name", "permissions", "permissions__content_type"],
}  # fmt: skip
LOOKUPS = [
    "", "exact", "iexact", "contains", "icontains", "in", "gt", "gte", "lt", "lte", "range", "year", "month", "day", "week_day",
    "iso_year", "hour", "date", "time", "isnull", "regex", "iregex", "startswith", "contained_by", "has_key", "0__price", "year__gt",
    "nonsense", "__", "quarter", "len", "date__year",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [
            "", "0", "1", "-1", "9999", "10000", "99999999999999999999", "9" * 5000, "1e400", "NaN", "\0", "a\0b", "(", "(a", "[", "*",
            "{1", "\\", "\\x", "None", "True", "maybe", "null", "{}", "[]", '"x"', "{", ",", "1,2", "é", "\ud800", "2026-11-26",
            "2026-13-45", "0001-01-01", "9999-12-31", "9999-12-31 23:59:59.999999+00:00", "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
            "x" * 300, "infinity", "-infinity",
        ]
    ),
    st.text(max_size=8),
).map(lambda text: text.encode("utf-8", "surrogatepass"))  # fmt: skip
SPECIAL = [
    "q",
    "p",
    "o",
    "e",
    "all",
    "_to_field",
    "_popup",
    "_facets",
    "_changelist_filters",
    "state",
    "id",
    "_source_model",
]


class Admin:
    """A browser's view of one service's admin, logged in."""

    def __init__(self, url):
        self.address = urlsplit(url).netloc
        self.cookies = {}
        page = self.get("/admin/login/")[2]
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
        form = {"csrfmiddlewaretoken": token, "username": ROOT[0], "password": ROOT[1], "next": "/admin/"}
        assert self.ask("POST", "/admin/login/", urlencode(form))[0] == 302

    def get(self, path):
        return self.ask("GET", path)

    def ask(self, method, path, form=None):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
        connection.request(method, path, form, {"Cookie": cookie, **kind})
        answer = connection.getresponse()
        for line in answer.headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        result = answer.status, answer.headers, answer.read().decode(errors="replace")
        connection.close()
        return result


@pytest.fixture(scope="module", params=["users", "orders"])
def admin(request):
    with database(request.param) as environment:
        command = [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", ROOT[0], "--email", ""]
        run(command, {**environment, "DJANGO_SUPERUSER_PASSWORD": ROOT[1]})
        with gunicorn(request.param, environment) as served:
            admin = Admin(served.url)
            admin.lists = LISTS[request.param]
            admin.service = request.param
            admin.log = served.child.log
            yield admin


def assert_no_failure(status, page, asked):
    assert status < 500 or (status == 503 and "deadletter" in asked), (asked, page[:500])


@given(data=st.data())
@settings(max_examples=400)
def test_no_query_makes_a_list_fail(admin, data):
    where = data.draw(st.sampled_from(admin.lists))
    names = st.one_of(
        st.builds(
            lambda field, lookup: f"{field}__{lookup}" if lookup else field,
            st.sampled_from(FIELDS[where]),
            st.sampled_from(LOOKUPS),
        ),
        st.sampled_from(SPECIAL),
    )
    query = data.draw(st.lists(st.tuples(names, VALUES), min_size=1, max_size=3))
    path = f"/admin/{where}/?{urlencode(query)}"
    status, headers, page = admin.get(path)
    assert_no_failure(status, page, path)
    if status == 302:
        # Where it leads to is a page.
        assert admin.get(headers["Location"])[0] < 400


@given(data=st.data())
@settings(max_examples=150)
def test_no_id_makes_a_page_fail(admin, data):
    where = data.draw(st.sampled_from(admin.lists))
    object_id = quote(data.draw(VALUES.filter(len)), safe="")[:3000]
    page = data.draw(st.sampled_from(["change/", "delete/", "history/", "", "password/", "x/y"]))
    query = data.draw(st.lists(st.tuples(st.sampled_from(SPECIAL), VALUES), max_size=1))
    path = f"/admin/{where}/{object_id}/{page}?{urlencode(query)}"
    status, _, body = admin.get(path)
    assert_no_failure(status, body, path)


@given(data=st.data())
@settings(max_examples=100)
def test_no_selection_makes_an_action_fail(admin, data):
    where = data.draw(st.sampled_from([one for one in admin.lists if not one.endswith(("deadletter", "story"))]))
    action = data.draw(st.sampled_from(["delete_selected", "retry_parked", "discard_parked", "", "nonsense"]))
    chosen = data.draw(st.lists(VALUES, max_size=2))
    form = [("csrfmiddlewaretoken", admin.cookies["csrftoken"]), ("action", action)]
    form += [("_selected_action", one) for one in chosen] + [("index", data.draw(VALUES)), ("select_across", "0")]
    path = f"/admin/{where}/"
    status, _, body = admin.ask("POST", path, urlencode(form))
    assert_no_failure(status, body, (path, form))


@pytest.mark.parametrize(
    "query", ["created_at__year=99999999999999999999", "created_at__regex=(", "id=%00", "id__in=%00", "id__range=0"]
)
def test_an_invalid_filter_redirects_to_the_list_with_a_message(admin, query):
    path = f"/admin/{admin.service}/{admin.service.removesuffix('s')}/"
    status, headers, _ = admin.get(f"{path}?{query}")

    assert (status, headers["Location"].partition("?")[0]) == (302, path)


def test_the_last_year_is_valid(admin):
    assert admin.get(f"/admin/{admin.service}/{admin.service.removesuffix('s')}/?created_at__year=9999")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["r/1/1/", "messaging/inboxevent/%00/change/", "messaging/outboxevent/x/change/", "auth/user/1/change/?_to_field="],
)
def test_missing_resources(admin, path):
    assert admin.get(f"/admin/{path}")[0] in {302, 404}


def test_requested_targets_are_in_no_log(admin):
    path = f"/admin/{admin.service}/{admin.service.removesuffix('s')}/"
    for query in ("created_at__year=Lovelace", "id__in=Lovelace", "_to_field=Lovelace", "id__regex=Lovelace("):
        assert admin.get(f"{path}?{query}")[0] in {302, 400}
    form = {"csrfmiddlewaretoken": admin.cookies["csrftoken"], "action": "", "_selected_action": "Lovelace"}
    admin.ask("POST", path, urlencode(form))
    log = admin.log.read_text(errors="replace")
    assert "DisallowedModelAdminToField" in log
    assert "Lovelace" not in log
