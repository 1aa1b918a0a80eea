"""Logging, tested on the standard error of a process."""

import json

import pytest

from chassis.observability import logging
from tests.chassis.observability.processes import python

PRELUDE = """
import sys
import settings
from django.conf import settings
settings.configure(
    SERVICE_NAME="tiny", LOG_FORMAT=sys.argv[1], INSTALLED_APPS=["chassis.observability"],
    LOGGING_CONFIG="chassis.observability.logging.configure", LOGGING={"level": "INFO"},
)
import structlog
early = structlog.get_logger("early")
import django
django.setup()
import logging, threading, warnings
from chassis.observability import correlation, tracing
log = structlog.get_logger("tiny.part")
std = logging.getLogger("library")
"""


def written(code: str, log_format: str = "json", *, fails: bool = False, **environment: str) -> str:
    done = python("-c", PRELUDE + code, log_format, **environment)
    assert (done.returncode != 0) == fails, done.stderr
    assert done.stdout == ""
    return done.stderr


def lines(code: str, *, fails: bool = False) -> list[dict]:
    return [json.loads(line) for line in written(code, fails=fails).splitlines()]


class TestJson:
    def test_structlog_and_the_standard_library_have_the_same_format(self):
        ours, theirs = lines(
            """
with correlation.bind_request_id("r-1"), tracing.tracer("t").start_as_current_span("s"):
    log.info("paid", order_id="o-1")
    std.info("paid %s", "x")
"""
        )
        assert ours["event"] == "paid"
        assert ours["order_id"] == "o-1"
        assert theirs["event"] == "paid x"
        assert (ours["logger"], theirs["logger"]) == ("tiny.part", "library")
        for line in (ours, theirs):
            assert line["level"] == "info"
            assert line["service"] == "tiny"
            assert line["request_id"] == "r-1"
            assert line["timestamp"].endswith("Z")
        assert len(ours["trace_id"]) == 32
        assert (ours["trace_id"], ours["span_id"]) == (theirs["trace_id"], theirs["span_id"])

    def test_bound_context_is_on_both(self):
        found = lines("structlog.contextvars.bind_contextvars(topic='t', partition=3)\nlog.info('a')\nstd.info('b')")
        assert [(line["topic"], line["partition"]) for line in found] == [("t", 3), ("t", 3)]

    def test_exceptions_show_type_message_and_stack_and_no_values(self):
        (line,) = lines(
            """
def pay(card):
    secret = "hunter2"
    try:
        {}["inner"]
    except KeyError as error:
        raise ValueError("no money for joe@example.org\\nDETAIL:  Key (email)=(joe) exists") from error
try:
    pay("4111")
except ValueError:
    log.exception("failed")
"""
        )
        outer, inner = line["exception"]
        assert outer["type"] == "ValueError"
        assert outer["message"] == "no money for [hidden]\nDETAIL: [hidden]"
        assert [place.rsplit(" in ")[1] for place in outer["stack"]] == ["<module>", "pay"]
        assert inner["type"] == "KeyError"
        text = json.dumps(line)
        assert "hunter2" not in text
        assert "4111" not in text
        assert "joe" not in text

    def test_values_that_json_cannot_represent_are_logged(self):
        found = lines("log.info('a', big=2**80)\nlog.info('b', broken='\\ud800')\nlog.info('c', thing=object())")
        assert found[0]["big"] == 2**80
        assert found[1]["broken"] == "\ud800"
        assert found[2]["thing"].startswith("<object")

    def test_uncaught_exceptions_are_lines_too(self):
        first, second = lines(
            """
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("over")
""",
            fails=True,
        )
        assert first["exception"][0]["type"] == "ZeroDivisionError"
        assert second["exception"][0]["message"] == "over"
        assert second["level"] == "critical"

    def test_below_the_level_nothing_is_written(self):
        assert lines("log.debug('a')\nstd.debug('b')\nearly.debug('c')") == []

    def test_existing_loggers_follow(self):
        (line,) = lines("early.info('x')")
        assert line["service"] == "tiny"

    def test_sql_with_its_parameters_is_never_written(self):
        assert lines("logging.getLogger('django.db.backends').info('SELECT %s', 'joe')") == []

    def test_a_closed_standard_error_is_harmless(self):
        assert written("sys.stderr.close()\nlog.info('x')") == ""

    def test_repeated_messages_are_logged_once(self):
        found = lines(
            """
for port in range(5):
    logging.getLogger("librdkafka").warning("FAIL [thrd:main]: 127.0.0.1:%d refused after %dms", port, port)
    logging.getLogger("opentelemetry.exporter").error("cannot export")
    std.warning("cannot %d", port)
"""
        )
        assert [line["logger"] for line in found].count("librdkafka") == 1
        assert [line["logger"] for line in found].count("opentelemetry.exporter") == 1
        assert [line["logger"] for line in found].count("library") == 5


class TestConsole:
    def test_is_readable_and_has_the_same_content(self):
        text = written("log.info('paid', email='a@b.de', order='o')", "console")
        assert "paid" in text
        assert "order=o" in text
        assert "service=tiny" in text
        assert "a@b.de" not in text
        assert "\x1b[" not in text

    def test_is_coloured_on_request(self):
        assert "\x1b[" in written("log.info('paid')", "console", FORCE_COLOR="1")

    def test_control_characters_of_a_value_do_not_reach_the_terminal(self):
        text = written(
            r"log.info('bad\x07', key='\x1b[31mRED\x1b]0;owned\x07', back='\u202ea', list=['\x9b'])", "console"
        )
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)
        assert "\\x1b[31mRED" in text

    def test_exceptions_hide_what_they_quote(self):
        text = written(
            "try:\n    raise ValueError('x' + '@example.org')\nexcept ValueError:\n    log.exception('bad')", "console"
        )
        assert "Traceback" in text
        assert "x@example.org" not in text


class TestImports:
    @pytest.mark.parametrize(
        "module", ["google.protobuf", "requests", "opentelemetry.instrumentation", "opentelemetry.exporter"]
    )
    def test_exporter_settings_are_absent(self, module):
        assert written(f"assert {module!r} not in sys.modules") == ""


class TestDjangosLines:
    def test_only_exceptions_of_responses_are_logged(self):
        (line,) = lines(
            """
request = logging.getLogger("django.request")
request.error("Service Unavailable: /users?email=ada")
try:
    raise ValueError("x")
except ValueError:
    request.error("Internal Server Error: %s", "/users", exc_info=True)
"""
        )
        assert line["exception"][0]["type"] == "ValueError"
        # Not its path.
        assert line["event"] == "request failed"


def nested_group() -> Exception:
    error: Exception = ValueError("innermost")
    for _ in range(5_000):
        error = ExceptionGroup("group", [error])
    return error


def odd_notes() -> Exception:
    error = ValueError("noted")
    error.__notes__ = 5
    return error


def large() -> Exception:
    return ValueError(("a" * 300 + "@b\n x@") * 35_000)


@pytest.mark.parametrize("make", [nested_group, odd_notes, large])
def test_every_exception_can_be_logged(make):
    error = make()
    exc_info = (type(error), error, None)
    assert logging._exception_as_data(exc_info)[0]["type"] == type(error).__name__
    assert len(str(logging._exception_as_data(exc_info))) < 200_000
    assert len(logging._exception_as_text(exc_info)) < 200_000
