"""W3C Trace Context: what is accepted of a client's trace. The cases include those of the W3C's test suite."""

import re

import pytest

from chassis.observability import tracing
from gateway import trace

TRACE, PARENT = "12345678901234567890123456789012", "1234567890123456"
VALID = f"00-{TRACE}-{PARENT}-01"


def begun(parent, *states):
    """The trace for these fields, as the gateway sees them: several of one name are joined."""
    state = ", ".join(states).encode("latin-1") if states else None
    return trace.begin(parent.encode("latin-1") if parent is not None else None, state, method="GET", route="/x")


class TestTraceparent:
    @pytest.mark.parametrize(
        ("parent", "flags"),
        [
            (VALID, "01"),
            (f"00-{TRACE}-{PARENT}-00", "00"),
            (f"00-{TRACE}-{PARENT}-02", "02"),
            (f"00-{TRACE}-{PARENT}-03", "03"),
            (f"00-{TRACE}-{PARENT}-ff", "03"),
            (f"cc-{TRACE}-{PARENT}-01", "01"),
            (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", "01"),
            (f"01-{TRACE}-{PARENT}-01-", "01"),
        ],
    )
    def test_is_continued(self, parent, flags):
        told = begun(parent).traceparent.decode()
        match = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-{flags}", told)
        assert match, told
        assert match[1] != PARENT

    @pytest.mark.parametrize(
        "parent",
        [
            None,
            "",
            VALID + ".",
            VALID + "-what-the-future-will-be-like",
            VALID + "-",
            f"cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like",
            f"ff-{TRACE}-{PARENT}-01",
            f".0-{TRACE}-{PARENT}-01",
            f"0.-{TRACE}-{PARENT}-01",
            f"000-{TRACE}-{PARENT}-01",
            f"0000-{TRACE}-{PARENT}-01",
            f"0-{TRACE}-{PARENT}-01",
            f"00-{'0' * 32}-{PARENT}-01",
            f"00-.{TRACE[1:]}-{PARENT}-01",
            f"00-{TRACE[:-1]}.-{PARENT}-01",
            f"00-{TRACE}3-{PARENT}-01",
            f"00-{TRACE[:-1]}-{PARENT}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE}-.{PARENT[1:]}-01",
            f"00-{TRACE}-{PARENT[:-1]}.-01",
            f"00-{TRACE}-{PARENT}7-01",
            f"00-{TRACE}-{PARENT[:-1]}-01",
            f"00-{TRACE}-{PARENT}-.0",
            f"00-{TRACE}-{PARENT}-0.",
            f"00-{TRACE}-{PARENT}-001",
            f"00-{TRACE}-{PARENT}-1",
            f"00-{TRACE[:-1]}A-{PARENT}-01",
            f"{VALID}, {VALID}",
            f"00_{TRACE}_{PARENT}_01",
            VALID.replace("1", "\xe4", 1),
        ],
    )
    def test_starts_a_new_one(self, parent):
        told = begun(parent, "foo=1")
        assert re.fullmatch(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00", told.traceparent)
        assert told.trace_id != TRACE
        assert told.tracestate == b""


KEY = "".join(map(chr, range(0x61, 0x7B))) + "0123456789_-*/"
VALUE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")


class TestTracestate:
    @pytest.mark.parametrize(
        ("states", "told"),
        [
            (["foo=1,bar=2"], "foo=1,bar=2"),
            ([""], ""),
            (["foo=1", ""], "foo=1"),
            (["", "foo=1"], "foo=1"),
            (["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
            (["foo=1,foo=2"], "foo=1,foo=2"),
            (["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
            ([f"{KEY}={VALUE}"], f"{KEY}={VALUE}"),
            ([f"{KEY}@a-z0-9_-*/={VALUE}"], f"{KEY}@a-z0-9_-*/={VALUE}"),
            ([",".join(f"bar{n:02}={n:02}" for n in range(32))], ",".join(f"bar{n:02}={n:02}" for n in range(32))),
            (["z" * 256 + "=1"], "z" * 256 + "=1"),
            (["foo=" + "v" * 256], "foo=" + "v" * 256),
        ],
    )
    def test_passes(self, states, told):
        assert begun(VALID, *states).tracestate.decode() == told

    @pytest.mark.parametrize(
        "states",
        [
            ["foo =1"], ["FOO=1"], ["foo.bar=1"], ["@foo=1,bar=2"], ["foo=bar=baz"], ["foo=,bar=3"], ["foo"], ["=1"],
            ["foo=1", "z" * 257 + "=1"], ["foo=" + "v" * 257], ["foo=\xe4"],
            [",".join(f"bar{n:02}={n:02}" for n in range(33))],
        ],
    )  # fmt: skip
    def test_is_dropped_and_the_trace_continues(self, states):
        told = begun(VALID, *states)
        assert told.tracestate == b""
        assert told.trace_id == TRACE


class TestOverTheWire:
    @pytest.mark.parametrize("blanks", ["{} ", "{}\t", "\t {} \t", "  {}"])
    @pytest.mark.parametrize("name", ["traceparent", "TraceParent", "TRACEPARENT"])
    def test_whitespace_and_case_do_not_matter(self, gateway, users, blanks, name):
        gateway.ask("GET", "/api/users", f"{name}:{blanks.format(VALID)}", "TraceState: foo=1", "tracestate: bar=2")
        assert users.requests[0]["traceparent"].split("-")[1] == TRACE
        assert users.requests[0]["tracestate"] == "foo=1,bar=2"

    @pytest.mark.parametrize("name", ["trace-parent", "trace.parent", "trace_parent"])
    def test_other_names_are_others(self, gateway, users, name):
        gateway.ask("GET", "/api/users", f"{name}: {VALID}")
        assert users.requests[0]["traceparent"].split("-")[1] != TRACE

    def test_two_are_none(self, gateway, users):
        gateway.ask("GET", "/api/users", f"traceparent: {VALID}", f"traceparent: {VALID}")
        assert users.requests[0]["traceparent"].split("-")[1] != TRACE


class TestSampling:
    """Which requests are recorded, and what the services are told."""

    @pytest.fixture
    def begun_with(self, monkeypatch):
        def begun_with(sampler, parent=None, ratio="1"):
            monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
            monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
            monkeypatch.setattr(tracing._State, "sampling", tracing.Sampling.of_environment())
            return begun(parent)

        return begun_with

    @pytest.mark.parametrize(
        ("sampler", "parent", "sampled"),
        [
            ("parentbased_always_on", None, True),
            ("parentbased_always_on", VALID, True),
            ("parentbased_always_on", f"00-{TRACE}-{PARENT}-00", False),
            ("parentbased_always_off", None, False),
            ("parentbased_always_off", VALID, True),
            ("always_on", f"00-{TRACE}-{PARENT}-00", True),
            ("always_off", VALID, False),
            ("always_off", None, False),
        ],
    )
    def test_the_flag_tells_the_services(self, begun_with, sampler, parent, sampled):
        told = begun_with(sampler, parent)
        assert told.traceparent.endswith(b"-01" if sampled else b"-00")
        assert (told.recording is not None) == sampled

    def test_the_parent_of_the_service_is_the_client_span(self, begun_with):
        told = begun_with("always_on", VALID)
        assert told.recording.trace_id == int(TRACE, 16)
        assert told.recording.parent.span_id == int(PARENT, 16)
        assert told.span_id == f"{told.recording.server_id:016x}"
        assert told.traceparent.decode() == f"00-{TRACE}-{told.recording.client_id:016x}-01"

    def test_a_ratio_of_the_traces_is_recorded(self, begun_with):
        recorded = sum(begun_with("traceidratio", ratio="0.25").recording is not None for _ in range(1000))
        assert 150 < recorded < 350

    def test_the_same_trace_has_the_same_decision_everywhere(self, begun_with):
        low, high = (f"00-{'1' * 16}{digit * 16}-{PARENT}-00" for digit in "1f")
        assert begun_with("traceidratio", low, "0.5").recording is not None
        assert begun_with("traceidratio", high, "0.5").recording is None

    def test_so_many_per_second_are_recorded_and_as_many_failures(self, monkeypatch):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_ratelimiting")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.01")
        monkeypatch.setattr(tracing._State, "sampling", tracing.Sampling.of_environment())
        first, second = begun(None), begun(None)
        assert (first.recording is not None, second.recording is not None) == (True, False)
        late = [trace.record_failure(second, method="GET", route="/x", seconds=1.5) for _ in range(2)]
        assert f"{late[0].trace_id:032x}" == second.trace_id
        assert f"{late[0].server_id:016x}" == second.span_id
        assert late[1] is None

    def test_failures_are_no_exception_for_other_samplers(self, begun_with):
        told = begun_with("parentbased_always_off")
        assert trace.record_failure(told, method="GET", route="/x", seconds=0.1) is None
