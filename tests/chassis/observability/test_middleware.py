"""CorrelationMiddleware: in a separate process, and asynchronous as under the gateway's ASGI server."""

import asyncio
import json

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse
from django.test import RequestFactory
from structlog.testing import capture_logs

from chassis.observability import correlation, tracing
from chassis.observability.middleware import CorrelationMiddleware
from tests.chassis.observability.processes import run

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.fixture(scope="module")
def said():
    return run(
        [
            ("GET", "/hello/1?email=joe@example.org", {"X-Request-Id": "mine-1"} | PARENT),
            ("GET", "/hello/2", {"X-Request-Id": "not sane\x01"}),
            ("GET", "/nowhere/joe@example.org", {}),
            ("POST", "/boom", {}),
            ("GET", "/health/ready", {}),
        ]
    )


class TestRequestId:
    def test_a_valid_one_is_kept_used_and_returned(self, said):
        answer = said.answers[0]
        assert answer["headers"]["X-Request-Id"] == answer["body"]["request_id"] == "mine-1"

    def test_an_invalid_one_is_replaced(self, said):
        answer = said.answers[1]
        assert correlation.sane(answer["headers"]["X-Request-Id"])
        assert answer["headers"]["X-Request-Id"] == answer["body"]["request_id"]

    def test_every_response_has_one(self, said):
        ids = [answer["headers"]["X-Request-Id"] for answer in said.answers]
        assert len(set(ids)) == len(said.answers) == 5


class TestTrace:
    def test_is_continued_without_any_exporter(self, said):
        body = said.answers[0]["body"]
        assert body["trace_id"] == TRACE
        assert body["span_id"] not in ("", "b7ad6b7169203331")
        assert body["carrier"]["traceparent"].startswith(f"00-{TRACE}-{body['span_id']}-")

    def test_is_started_if_there_is_none(self, said):
        body = said.answers[1]["body"]
        assert len(body["trace_id"]) == 32
        assert body["trace_id"] != TRACE


class TestAccessLine:
    def test_logs_method_route_status_and_duration(self, said):
        line = next(line for line in said.lines if line["request_id"] == "mine-1")
        assert line["event"] == "request"
        assert (line["method"], line["route"], line["status"]) == ("GET", "/hello/<int:number>", 200)
        assert line["duration_ms"] > 0
        assert line["trace_id"] == TRACE
        assert line["span_id"] == said.answers[0]["body"]["span_id"]

    def test_never_shows_the_path_or_the_query(self, said):
        assert "joe" not in said.stderr

    def test_a_failure_is_a_warning_besides_the_exception(self, said):
        request_id = said.answers[3]["headers"]["X-Request-Id"]
        lines = [line for line in said.lines if line["request_id"] == request_id]
        assert [(line["logger"], line["level"]) for line in lines] == [
            ("django.request", "error"),
            ("access", "warning"),
        ]
        assert lines[0]["exception"][0]["message"] == "no luck for [hidden]"
        assert "hunter2" not in json.dumps(lines)

    def test_probes_are_not_logged(self, said):
        assert len([line for line in said.lines if line["event"] == "request"]) == 4

    def test_probes_are_logged_at_debug(self):
        lines = run([("GET", "/health/ready", {})], LOG_LEVEL="DEBUG").lines
        assert [line["level"] for line in lines if line["event"] == "request"] == ["debug"]


class TestAsynchronous:
    def test_is_asynchronous_around_asynchronous(self):
        seen = {}

        async def get_response(request):
            await asyncio.sleep(0)
            seen["request_id"], seen["trace"] = correlation.current_request_id(), tracing.current_ids()
            return HttpResponse("ok")

        middleware = CorrelationMiddleware(get_response)
        assert iscoroutinefunction(middleware)
        request = RequestFactory().get("/", headers={"X-Request-Id": "mine"} | PARENT)
        request.resolver_match = None
        with capture_logs() as logs:
            response = asyncio.run(middleware(request))
        assert response.headers["X-Request-Id"] == seen["request_id"] == "mine"
        assert seen["trace"][0] == TRACE
        assert [(line["status"], line["route"]) for line in logs] == [(200, None)]

    def test_requests_at_the_same_time_do_not_mix(self):
        async def get_response(request):
            before = correlation.current_request_id()
            await asyncio.sleep(0.01)
            return HttpResponse(f"{before} {correlation.current_request_id()}")

        async def all_of_them():
            middleware = CorrelationMiddleware(get_response)
            requests = [RequestFactory().get("/", headers={"X-Request-Id": f"r{n}"}) for n in range(20)]
            for request in requests:
                request.resolver_match = None
            return await asyncio.gather(*(middleware(request) for request in requests))

        assert [answer.content.decode() for answer in asyncio.run(all_of_them())] == [f"r{n} r{n}" for n in range(20)]


def test_after_a_request_nothing_is_bound():
    middleware = CorrelationMiddleware(lambda request: HttpResponse("ok"))
    request = RequestFactory().get("/health/live")
    request.resolver_match = None
    middleware(request)
    assert correlation.current_request_id() == ""
    assert tracing.current_ids() == ("", "")
