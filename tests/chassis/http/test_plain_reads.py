"""A plain read is answered as Django and REST framework would, byte for byte; everything else is answered by them."""

import io
import json
import sys
import uuid

import pytest
from django.db import connections
from django.urls import get_resolver
from hypothesis import HealthCheck, example, given
from hypothesis import settings as generated
from hypothesis import strategies as st
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.django.middleware.otel_middleware import _DjangoMiddleware
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import SpanKind
from rest_framework.test import APIClient

from chassis.http.plain_reads import MIDDLEWARE, PlainReads
from chassis.http.requests import WSGIHandler
from chassis.observability import metrics, requests, samplers, tracing
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)

REQUEST_ID = "a-request-id"


class Counting:
    """Django's application, and how often it was called."""

    def __init__(self):
        self.application, self.calls = WSGIHandler(), 0

    def __call__(self, environ, start_response):
        self.calls += 1
        return self.application(environ, start_response)


def environ(target, headers=(), *, method="GET", query="", **more):
    fields = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in dict(headers).items()}
    return {
        "REQUEST_METHOD": method, "PATH_INFO": target, "QUERY_STRING": query, "SCRIPT_NAME": "", "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(b""), "wsgi.errors": sys.stderr, "HTTP_HOST": "127.0.0.1", "HTTP_X_REQUEST_ID": REQUEST_ID,
        **fields, **more,
    }  # fmt: skip


def answered(application, *arguments, **more):
    """Status, header fields and body."""
    started = []
    response = application(environ(*arguments, **more), lambda status, fields, *_: started.append((status, fields)))
    try:
        body = b"".join(response)
    finally:
        getattr(response, "close", lambda: None)()
    [(status, fields)] = started
    return status, fields, body


def routes(patterns=None):
    return requests.endpoints(get_resolver().url_patterns if patterns is None else patterns)


@pytest.fixture
def usual():
    return Counting()


@pytest.fixture
def reads(usual):
    return PlainReads(usual, routes())


@pytest.fixture
def user():
    return APIClient().post("/users", {"email": "ada@example.org", "name": "Ada"}, format="json").json()


def test_only_the_first_of_them_goes_the_usual_way(usual, reads, user):
    first = answered(reads, f"/users/{user['id']}")
    assert (first[0], json.loads(first[2])) == ("200 OK", user)
    assert usual.calls == 1
    assert [answered(reads, f"/users/{user['id']}") for _ in range(3)] == [first] * 3
    assert usual.calls == 1


def test_every_object_has_its_own_validators(usual, reads, user):
    other = APIClient().post("/users", {"email": "bob@example.org", "name": "Bob" * 30}, format="json").json()
    answered(reads, f"/users/{user['id']}")
    found = answered(reads, f"/users/{other['id']}")
    assert usual.calls == 1
    assert found == answered(WSGIHandler(), f"/users/{other['id']}")


def test_a_change_is_seen_at_once_and_so_is_a_removal(usual, reads, user):
    target = f"/users/{user['id']}"
    before = answered(reads, target)
    APIClient().patch(target, {"name": "Ada Lovelace"}, format="json")
    after = answered(reads, target)
    assert usual.calls == 1
    assert json.loads(after[2])["name"] == "Ada Lovelace"
    assert dict(after[1])["ETag"] != dict(before[1])["ETag"]
    APIClient().delete(target)
    gone = answered(reads, target)
    assert gone == answered(WSGIHandler(), target)
    assert gone[0].startswith("404")


class TestLists:
    @pytest.fixture
    def three(self):
        return [
            APIClient().post("/users", {"email": f"{n}@example.org", "name": "N"}, format="json").json()
            for n in range(3)
        ]

    def test_only_the_first_of_them_goes_the_usual_way(self, usual, reads, three):
        for query in ("limit=2", "limit=1"):
            usual.calls = 0
            first = answered(reads, "/users", query=query)
            assert [answered(reads, "/users", query=query) for _ in range(2)] == [first] * 2
            assert usual.calls == 1
            assert first == answered(WSGIHandler(), "/users", query=query)
        assert [one["id"] for one in json.loads(answered(reads, "/users", query="limit=2")[2])["results"]] == [
            three[2]["id"],
            three[1]["id"],
        ]

    def test_the_link_is_that_of_the_last_row(self, reads, three):
        answered(reads, "/users", query="limit=2")
        added = APIClient().post("/users", {"email": "new@example.org", "name": "N"}, format="json").json()
        found = answered(reads, "/users", query="limit=2")
        assert found == answered(WSGIHandler(), "/users", query="limit=2")
        page = json.loads(found[2])
        assert page["results"][0] == added
        rest = APIClient().get(page["next"]).json()
        assert [one["id"] for one in rest["results"]] == [three[1]["id"], three[0]["id"]]

    def test_a_list_that_ends_before_its_limit_has_no_link(self, usual, reads, three):
        answered(reads, "/users", query="limit=2")
        APIClient().delete(f"/users/{three[0]['id']}")
        found = answered(reads, "/users", query="limit=2")
        assert usual.calls == 1
        assert json.loads(found[2])["next"] is None
        assert found == answered(WSGIHandler(), "/users", query="limit=2")
        # Without a link, nothing shows what it would be.
        for calls in (2, 3):
            assert json.loads(answered(reads, "/users", query="limit=3")[2])["next"] is None
            assert usual.calls == calls

    def test_pages_behind_the_proxy_have_links_with_its_prefix(self, usual, reads, three, settings):
        settings.TRUSTED_PROXIES = ["127.0.0.0/8"]
        reads = PlainReads(usual, routes())
        outside = {"X-Forwarded-Prefix": "/api", "X-Forwarded-Host": "127.0.0.1:8000", "X-Forwarded-Proto": "http"}
        for _ in range(2):
            found = answered(reads, "/users", outside, query="limit=1")
            assert json.loads(found[2])["next"].startswith("http://127.0.0.1:8000/api/users?cursor=o")
            assert found == answered(WSGIHandler(), "/users", outside, query="limit=1")
        assert usual.calls == 1


TARGETS = ["/users", "/users", "/users/{id}", "/users/{ID}", "/users/{hex}", "/users/{id}/", "/users//{id}", "//users/{id}", "/users/", "/users/nobody",
           "/users/{other}", "/users/é", "/users/%00", "/users/\0", "users/{id}", "", "/", "/health/live"]  # fmt: skip
HEADERS = {
    "Accept": [
        "",
        "*/*",
        "application/json",
        "application/json;q=0",
        "text/html",
        "text/html, */*",
        "application/problem+json",
        "é",
    ],
    "Host": ["", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:99999", "localhost", "evil.example", "[::1]", "a b"],
    "If-None-Match": ["*", '"{etag}"', 'W/"{etag}"', '"no"'],
    "If-Match": ["*", '"no"'],
    "If-Modified-Since": ["Fri, 01 Jan 2100 00:00:00 GMT", "no"],
    "If-Unmodified-Since": ["Thu, 01 Jan 1970 00:00:00 GMT"],
    "Range": ["bytes=0-1"],
    "Origin": ["http://127.0.0.1", "https://pages.example", "null"],
    "Cookie": ["sessionid=1", ""],
    "Authorization": ["Basic eDp5"],
    "Connection": ["close"],
    "User-Agent": ["é", ""],
    "Sec-Fetch-Site": ["cross-site"],
    "X-Forwarded-For": ["10.0.0.1", "no"],
    "X-Forwarded-Host": ["api.example", "a b"],
    "X-Forwarded-Prefix": ["/api", "//evil.example", "/api/"],
    "X-Forwarded-Proto": ["https", "http"],
    "X-Request-Id": ["another", "no t", "é" * 200],
    "X-HTTP-Method-Override": ["DELETE"],
    "Traceparent": ["00-" + "a" * 32 + "-" + "b" * 16 + "-01", "no"],
    "Expect": ["100-continue"],
    "Transfer-Encoding": ["chunked", "gzip"],
    "Idempotency-Key": ["k"],
}
FIELDS = st.lists(
    st.sampled_from(sorted(HEADERS)).flatmap(lambda name: st.sampled_from([(name, value) for value in HEADERS[name]])),
    max_size=4,
).map(dict)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["GET", "HEAD", "OPTIONS", "TRACE", "get", "BREW"]),
        "query": st.sampled_from(
            [
                "",
                "",
                "limit=1",
                "limit=1",
                "limit=2",
                "limit=100",
                "limit=101",
                "limit=0",
                "limit=01",
                "limit=2&limit=3",
                "limit=٣",
                "limit=",
                "limit=1&cursor=x",
                "format=json",
                "format=api",
                "x=1",
                "%",
            ]
        ),
        "CONTENT_TYPE": st.sampled_from(["", "application/json", "text/plain; charset=hex", "x"]),
        "CONTENT_LENGTH": st.sampled_from(["", "0", "1" * 30]),
        "SERVER_PROTOCOL": st.sampled_from(["HTTP/1.0", "HTTP/1.1"]),
        "REMOTE_ADDR": st.sampled_from(["", "10.1.1.1", "::1"]),
        "wsgi.url_scheme": st.sampled_from(["http", "https"]),
        "SCRIPT_NAME": st.sampled_from(["", "/api"]),
    },
)


def comparable(answer):
    """Without what is generated for each response: a request id, the token of a page, the time."""
    status, fields, body = answer
    fields = [(name, value) for name, value in fields if name != "Expires"]
    if dict(fields).get("Content-Type", "").startswith("text/html"):
        return status, [name for name, _ in fields]
    new = next((value for name, value in fields if name == "X-Request-Id" and len(value) == 36), "new")
    return status, [(name, value.replace(new, "new")) for name, value in fields], body.replace(new.encode(), b"new")


@pytest.fixture
def both(settings):
    """The usual application, and one that remembers what all examples have requested."""
    settings.TRUSTED_PROXIES = ["127.0.0.0/8"]
    settings.CORS_ALLOWED_ORIGINS = ["https://pages.example"]
    return WSGIHandler(), PlainReads(WSGIHandler(), routes())


@generated(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(TARGETS) | st.just("/users/{id}"), FIELDS, MORE)
@example("/users/{id}", {}, {"wsgi.url_scheme": "https"})
@example("/users/{id}", {"If-None-Match": '"{etag}"'}, {})
@example("/users/{id}", {"X-Forwarded-Prefix": "/api", "X-Forwarded-Proto": "https"}, {})
def test_whatever_is_requested_the_response_is_the_usual_one(both, target, fields, more):
    usual, reads = both
    for name in ("ada", "bob", "eve"):
        User.objects.get_or_create(email=f"{name}@example.org", defaults={"name": name})
    user = User.objects.get(email="ada@example.org")
    names = {"id": str(user.id), "ID": str(user.id).upper(), "hex": user.id.hex, "other": str(uuid.uuid4())}
    etag = dict(answered(usual, f"/users/{user.id}")[1])["ETag"].strip('"')
    request = (target.format(**names), {name: value.replace("{etag}", etag) for name, value in fields.items()})
    expected = comparable(answered(usual, *request, **more))
    for _ in range(3):
        assert comparable(answered(reads, *request, **more)) == expected


@pytest.mark.parametrize("field", ["Cookie", "Authorization", "If-None-Match", "Range", "Expect", "X-Anything"])
def test_a_request_with_a_field_that_somebody_may_act_on_goes_the_usual_way(usual, reads, user, field):
    for calls in (1, 2, 3):
        answered(reads, f"/users/{user['id']}", {field: "x"})
        assert usual.calls == calls


def test_responses_that_differ_are_not_confused(usual, reads, user, settings):
    settings.TRUSTED_PROXIES = ["127.0.0.0/8"]
    settings.CORS_ALLOWED_ORIGINS = ["https://pages.example"]
    for _ in range(2):
        for fields in (
            {},
            {"Origin": "https://pages.example"},
            {"Origin": "https://evil.example"},
            {"Accept": "application/json"},
        ):
            target = f"/users/{user['id']}"
            assert answered(reads, target, fields) == answered(WSGIHandler(), target, fields)
    assert usual.calls == 4


def test_what_it_remembers_is_bounded(usual, reads, user, monkeypatch):
    monkeypatch.setattr("chassis.http.plain_reads.MOST_REMEMBERED", 3)
    for number in range(10):
        answered(reads, f"/users/{user['id']}", {"X-Forwarded-Port": str(number)})
        assert len(reads._known) <= 3
    assert usual.calls == 10


def test_an_empty_value_is_not_a_missing_one(usual, reads, user):
    old = environ(f"/users/{user['id']}", SERVER_PROTOCOL="HTTP/1.0")
    del old["HTTP_HOST"]
    for host, status in (({}, "200"), ({"HTTP_HOST": ""}, "400"), ({}, "200")):
        started = []
        b"".join(reads({**old, **host}, lambda status, *_, started=started: started.append(status)))
        assert started[0].startswith(status)
    assert usual.calls == 2


def test_long_values_are_not_remembered(usual, reads, user):
    for calls in (1, 2):
        answered(reads, f"/users/{user['id']}", {"X-Forwarded-Host": "h" * 1_000})
        assert usual.calls == calls
    assert not reads._known


def test_a_cookie_is_sent_to_nobody_else(usual, reads, user, monkeypatch):
    django = usual.application

    def with_cookie(environ, start_response):
        return django(environ, lambda status, fields, *_: start_response(status, [*fields, ("Set-Cookie", "a=1")]))

    monkeypatch.setattr(usual, "application", with_cookie)
    for calls in (1, 2):
        answered(reads, f"/users/{user['id']}")
        assert usual.calls == calls


def test_an_error_of_the_database_is_answered_as_usual(reads, user):
    target = f"/users/{user['id']}"
    assert answered(reads, target)[0] == "200 OK"
    with connections["users"].cursor() as cursor:
        cursor.execute("ALTER TABLE users RENAME TO users_away")
        try:
            found, expected = answered(reads, target), answered(WSGIHandler(), target)
        finally:
            cursor.execute("ALTER TABLE users_away RENAME TO users")
    assert found[0].startswith("500")
    assert found == expected
    assert answered(reads, target)[0] == "200 OK"


class TestObserved:
    def test_the_access_log_has_the_same_line(self, reads, user, caplog, capfd):
        parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"
        lines = []
        for application in (WSGIHandler(), reads, reads):
            capfd.readouterr()
            answered(application, f"/users/{user['id']}", {"Traceparent": parent})
            written = "".join(capfd.readouterr())
            assert REQUEST_ID in written
            assert "a" * 32 in written
            assert "/users/<str:id>" in written
            lines.append(written.count("\n"))
        assert lines == [1, 1, 1]

    def test_it_is_counted_once(self, reads, user):
        count = metrics.HTTP_REQUEST_SECONDS.labels("GET", "/users/<str:id>", 200)

        def counted():
            return next(one.value for one in count.collect()[0].samples if one.name.endswith("_count"))

        answered(reads, f"/users/{user['id']}")
        before = counted()
        answered(reads, f"/users/{user['id']}")
        assert counted() == before + 1

    @pytest.mark.parametrize("parent", [f"00-{'a' * 32}-{'b' * 16}-01", ""])
    def test_recorded_spans_are_those_of_the_middleware(self, user, recorder, parent):
        usual = Counting()
        reads = PlainReads(usual, routes())
        fields = {"Traceparent": parent} if parent else {}
        for calls in (1, 1, 1):
            answered(reads, f"/users/{user['id']}", {**fields, "User-Agent": "test"})
            assert usual.calls == calls
        servers = [span for span in recorder.spans if span.kind == SpanKind.SERVER]
        assert len(servers) == 3
        expected = servers[0]
        for span in servers[1:]:
            assert (span.name, span.attributes) == (expected.name, expected.attributes)
            assert span.parent == expected.parent
            assert span.status.status_code == expected.status.status_code
            assert span.start_time < span.end_time
        assert len({span.context.span_id for span in servers}) == 3
        statements = [span for span in recorder.spans if span.kind == SpanKind.CLIENT]
        assert [span.parent.span_id for span in statements] == [span.context.span_id for span in servers[1:]]
        assert {span.name for span in statements} == {"SELECT users"}
        assert all(
            span.attributes["db.namespace"] and "WHERE" in span.attributes["db.query.text"] for span in statements
        )

    @pytest.mark.parametrize(
        ("flag", "ratio", "is_recorded"), [("00", 1.0, 0), ("01", 0.0, 1), (None, 1.0, 1), (None, 0.0, 0)]
    )
    def test_what_is_not_sampled_is_not_recorded(self, user, recorder, monkeypatch, flag, ratio, is_recorded):
        reads = PlainReads(WSGIHandler(), routes())
        answered(reads, f"/users/{user['id']}")
        recorder.spans.clear()
        monkeypatch.setattr(tracing._State, "sampling", tracing.Sampling(samplers.Ratio(ratio), True))
        fields = {"Traceparent": f"00-{'a' * 32}-{'b' * 16}-{flag}"} if flag else {}
        answered(reads, f"/users/{user['id']}", fields)
        assert len([span for span in recorder.spans if span.kind == SpanKind.SERVER]) == is_recorded

    def test_attributes_that_only_the_middleware_adds_are_left_to_it(self, user, recorder, monkeypatch):
        monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "user-agent")
        usual = Counting()
        reads = PlainReads(usual, routes())
        for calls in (1, 2):
            answered(reads, f"/users/{user['id']}")
            assert usual.calls == calls


class Recorder(SpanProcessor):
    """Takes the spans that have ended."""

    def __init__(self):
        self.spans = []

    def on_end(self, span):
        self.spans.append(span)

    put = on_end


@pytest.fixture
def recorder(settings, monkeypatch):
    """An exporter in this process, with the instrumentation of Django."""
    from chassis.observability.http_spans import Instrumentor

    recorder = Recorder()
    sampling = tracing.Sampling(samplers.Ratio(1.0), True)
    provider = TracerProvider(sampler=ParentBased(sampling.roots))
    provider.add_span_processor(recorder)
    for name, value in (("provider", provider), ("processor", recorder), ("sampling", sampling)):
        monkeypatch.setattr(tracing._State, name, value)
    settings.MIDDLEWARE = list(settings.MIDDLEWARE)
    Instrumentor().instrument(tracer_provider=provider)
    # As the variable that `tracing.configure` sets, before the first use of the instrumentation in a process.
    monkeypatch.setattr(_DjangoMiddleware, "_sem_conv_opt_in_mode", _StabilityMode.HTTP)
    yield recorder
    Instrumentor().uninstrument()


def test_with_middleware_of_others_nothing_is_read_here(settings):
    assert set(settings.MIDDLEWARE) <= MIDDLEWARE
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    assert not PlainReads(WSGIHandler(), routes())._reads
