"""`POST /v1/traces`: what processes send, and what anything else may send."""

import gzip
import zlib

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.console import spans
from tests.waiting import eventually


def sent(**more) -> tuple[str, bytes]:
    trace = spans.new_trace()
    return trace, spans.request(
        spans.span(trace, "GET /api/users", attributes=spans.http()), **more
    ).SerializeToString()


class TestAccepted:
    def test_a_span_becomes_a_story_at_once(self, console):
        trace, body = sent(service="gateway", role="gateway")
        answer = console.export(body)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/x-protobuf"
        story = console.get(f"/stories/{trace}.json").json()
        assert (story["name"], story["status"], story["services"]) == ("GET /api/users", 200, ["gateway"])
        assert [one["process"] for one in story["span_list"]] == ["gateway"]

    @pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
    def test_it_may_be_compressed(self, console, encoding, pack):
        trace, body = sent()
        assert console.export(pack(body), Content_Encoding=encoding).status == 200
        assert console.get(f"/stories/{trace}.json").status == 200

    def test_invalid_spans_are_counted_and_the_others_are_kept(self, console):
        trace = spans.new_trace()
        bad = [
            spans.span("", span_id=b"12345678"),
            spans.span("0" * 32),
            spans.span(trace[:-2]),
            spans.span(trace, span_id=b""),
            spans.span(trace, parent="00"),
            spans.span(trace, begun=5, ended=4),
            spans.span(trace, begun=0),
            spans.span(trace, ended=(1 << 64) - 1),
            spans.span(trace, attributes={"large": "x" * 70_000}),
        ]
        answer = console.export(spans.request(*bad, spans.span(trace, "good")).SerializeToString())
        assert answer.status == 200
        said = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert said.rejected_spans == len(bad)
        assert [one["name"] for one in console.get(f"/stories/{trace}.json").json()["span_list"]] == ["good"]

    def test_unusual_values_are_shown(self, console):
        trace = spans.new_trace()
        odd = spans.span(
            trace, "<b>&\x00 \ud7ff" + "x" * 500, attributes={"": "", "ключ": "\x1b[31m", "n": -1, "f": float("inf")}
        )
        odd.attributes[0].value.ClearField("value")
        deep = odd.attributes.add(key="deep").value
        for _ in range(15):
            deep = deep.array_value.values.add()
        odd.attributes.add(key="bytes").value.bytes_value = b"\x00\xff"
        assert console.export(spans.request(odd, service="", role="<i>").SerializeToString()).status == 200
        answer = console.get(f"/stories/{trace}.json")
        assert answer.status == 200
        [shown] = answer.json()["span_list"]
        assert shown["attributes"]["f"] == "inf"  # JSON has no such number
        assert console.get("/stories").status == 200
        assert "<b>" not in console.get("/stories").text


class TestRejected:
    @pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data; boundary=x", ""])
    def test_other_types(self, console, kind):
        answer = console.export(b"{}", Content_Type=kind)
        assert answer.status == 415
        assert "application/x-protobuf" in answer.text

    def test_other_methods(self, console):
        answer = console.get("/v1/traces")
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")

    @pytest.mark.parametrize("cut", [1, 5, 20, 60])
    def test_a_truncated_message(self, console, cut):
        _, body = sent()
        answer = console.export(body[:-cut])
        assert answer.status == 400
        assert "truncated" in answer.text

    @pytest.mark.parametrize("body", [b"\xff" * 100, bytes(range(256)) * 40, b"GET / HTTP/1.1\r\n\r\n"])
    def test_what_is_no_message(self, console, body):
        assert console.export(body).status == 400

    def test_ten_megabytes(self, console):
        answer = console.export(b"\x0a" + b"x" * 10_000_000)
        assert answer.status == 413
        assert "8,388,608" in answer.text

    def test_ten_megabytes_in_chunks(self, console):
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=60)
        fields = {**console.authorization, "Content-Type": "application/x-protobuf"}
        try:
            connection.request("POST", "/v1/traces", iter([b"x" * 1_000_000] * 10), fields, encode_chunked=True)
            status = connection.getresponse().status
        except (BrokenPipeError, ConnectionResetError):
            status = 413
        finally:
            connection.close()
        assert status == 413

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    def test_a_small_body_that_decompresses_to_a_gigabyte(self, console, encoding):
        packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
        body = b"".join(packer.compress(b"\x00" * 1_000_000) for _ in range(1_000)) + packer.flush()
        assert len(body) < 1_100_000
        answer = console.export(body, Content_Encoding=encoding)
        assert answer.status == 413

    @pytest.mark.parametrize(
        ("body", "says"), [(b"no gzip", "not gzip"), (gzip.compress(b"x" * 500, mtime=0)[:-9], "truncated")]
    )
    def test_what_is_not_compressed(self, console, body, says):
        answer = console.export(body, Content_Encoding="gzip")
        assert answer.status == 400
        assert says in answer.text

    def test_other_encodings(self, console):
        assert console.export(b"", Content_Encoding="br").status == 415

    def test_after_all_of_it_the_console_works(self, console):
        trace, body = sent()
        assert console.export(body).status == 200
        assert eventually(lambda: console.get(f"/stories/{trace}.json").status == 200)
