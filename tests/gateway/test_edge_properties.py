"""Whatever is sent, in whatever fragments: each request gets one response, in order, and never another client's."""

import random

from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.edge import heads
from gateway.edge.bodies import Chunked, Sized
from gateway.problems import Refused
from tests.gateway.conformance.talking import exchange, responses
from tests.gateway.upstreams import answer

over_the_wire = hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_characters="\x7f"), max_size=30)
FRAMING = {"content-length", "transfer-encoding", "connection", "host", "expect", "content-type"}


@st.composite
def requests(draw):
    """A well-formed request of HTTP/1.1: its bytes, target and body."""
    number = draw(st.integers(0, 999))
    method = draw(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]))
    fields = draw(st.lists(st.tuples(TOKENS, VALUES), max_size=5))
    lines = [
        f"{name}:{draw(st.sampled_from(['', ' ', chr(9)]))}{value}"
        for name, value in fields
        if name.lower() not in FRAMING
    ]
    body = draw(st.binary(max_size=300)) if method != "GET" or draw(st.booleans()) else b""
    framing = (
        draw(st.sampled_from(["length", "chunks"])) if body else draw(st.sampled_from(["none", "length", "chunks"]))
    )
    data = body
    if framing == "length":
        lines.append(
            f"{draw(st.sampled_from(['Content-Length', 'CONTENT-length']))}: {len(body)}{draw(st.sampled_from(['', ' ']))}"
        )
    elif framing == "chunks":
        lines.append("Transfer-Encoding: chunked")
        data = draw(chunked(body))
    draw(st.randoms(use_true_random=False)).shuffle(lines)
    head = "\r\n".join([f"{method} /api/users/{number} HTTP/1.1", "Host: localhost", *lines, "", ""])
    return head.encode("latin-1") + data, f"/users/{number}", body


@st.composite
def chunked(draw, body):
    """A body in chunks."""
    data = b""
    while body:
        size = draw(st.integers(1, len(body)))
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b; c"', b" ; a = b"]))
        data += b"%x%b\r\n%b\r\n" % (size, extension, body[:size])
        body = body[size:]
    return data + b"0\r\n" + draw(st.sampled_from([b"", b"X: 1\r\n", b"Content-Length: 9\r\n"])) + b"\r\n"


async def told(received, reader, writer):
    writer.write(answer(received.target.encode() + b" " + received.body))


class TestRequests:
    @given(st.lists(requests(), min_size=1, max_size=5))
    @over_the_wire
    def test_get_one_response_each_in_order(self, gateway, users, sent):
        users.behave = told
        received = exchange(gateway, b"".join(data for data, _, _ in sent))
        assert [each.body for each in received] == [target.encode() + b" " + body for _, target, body in sent]

    @given(st.lists(requests(), min_size=1, max_size=4), st.randoms(use_true_random=False))
    @over_the_wire
    def test_split_at_any_byte(self, gateway, users, sent, chance):
        users.behave = told
        data = b"".join(data for data, _, _ in sent)
        with gateway.connect() as client:
            while data:
                size = chance.choice([1, 2, 3, 10, 100, 1000])
                client.send(data[:size])
                data = data[size:]
            assert [client.answer().body for _ in sent] == [target.encode() + b" " + body for _, target, body in sent]

    @given(requests(), st.data())
    @over_the_wire
    def test_with_a_changed_byte_get_one_response(self, gateway, users, sent, data):
        """Or refused; never is a part of one taken for another."""
        users.behave = told
        whole, _, _ = sent
        place = data.draw(st.integers(0, len(whole) - 1))
        changed = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
        users.requests.clear()
        received = exchange(gateway, changed)
        # A body may have become requests of its own, whose answers are all that may follow.
        good = [each for each in received if each.status == 200 and b"pages" not in each.body]
        assert len(users.requests) == len(good)
        assert [request.target.encode() for request in users.requests] == [
            each.body.partition(b" ")[0] for each in good
        ]
        assert all(each.status in {200, 400, 404, 405, 408, 413, 414, 431, 501, 503} for each in received)
        assert gateway.ask("GET", "/api/users/after").body == b"/users/after "


class TestHeads:
    @given(st.binary(max_size=200))
    def test_nothing_breaks_the_parser(self, data):
        for head in (data + b"\r\n\r\n", b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n"):
            assert refusal(lambda head=head: heads.parse(head).interpret()) in {0, 400, 414, 431, 501}

    @given(st.binary(max_size=60))
    def test_accepted_heads_are_parsed_like_lines(self, data):
        head = b"GET / HTTP/1.1\r\nHost: x\r\n" + data + b"\r\n\r\n"
        try:
            fields = heads.parse(head).fields
        except Refused:
            return
        lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
        assert b"\r" not in head.replace(b"\r\n", b"")
        assert b"\n" not in head.replace(b"\r\n", b"")
        assert [name for name, _ in fields] == [line.split(b":", 1)[0].lower() for line in lines]
        assert [value for _, value in fields] == [line.split(b":", 1)[1].strip(b" \t") for line in lines]


class TestBodies:
    @given(
        st.binary(max_size=500).flatmap(lambda body: st.tuples(st.just(body), chunked(body))),
        st.binary(max_size=20),
        st.integers(),
    )
    def test_chunked_bodies_end_at_their_last_chunk(self, sent, behind, seed):
        body, data = sent
        assert fed(Chunked(), data + behind, seed) == (body, behind)

    @given(st.binary(min_size=1, max_size=500), st.binary(max_size=20), st.integers())
    def test_lengths_too(self, body, behind, seed):
        assert fed(Sized(len(body)), body + behind, seed) == (body, behind)

    @given(st.binary(max_size=100), st.integers())
    def test_it_survives_garbage(self, data, seed):
        assert refusal(lambda: fed(Chunked(), data, seed)) in {0, 400}


def refusal(act):
    """The status with which something is refused, 0 where it is not."""
    try:
        act()
    except Refused as refused:
        return refused.status
    return 0


def fed(framing, data, seed):
    """Give it the data in pieces. Returns the body, and what it left behind its end."""
    chance, buffer, body = random.Random(seed), bytearray(), bytearray()
    while data:
        size = chance.choice([1, 2, 5, 50])
        buffer += data[:size]
        data = data[size:]
        if framing.feed(buffer, body.extend):
            return bytes(body), bytes(buffer) + data
    return None


class TestHeaderFields:
    """No header value causes a 5xx on any page."""

    @given(
        st.sampled_from(
            ["/", "/api/docs", "/api/schema", "/health/live", "/metrics", "/nothing", "/static/nothing.css"]
        ),
        st.sampled_from(
            [
                "Accept",
                "Accept-Encoding",
                "Accept-Language",
                "Authorization",
                "Cookie",
                "Content-Type",
                "Content-Encoding",
                "Forwarded",
                "If-Match",
                "If-None-Match",
                "If-Modified-Since",
                "Origin",
                "Range",
                "Referer",
                "Sec-Fetch-Site",
                "User-Agent",
                "Via",
                "Max-Forwards",
                "X-Forwarded-For",
                "X-Forwarded-Host",
                "X-Forwarded-Proto",
                "X-Request-Id",
                "traceparent",
                "tracestate",
                "Idempotency-Key",
                "Expect",
                "Date",
                "Warning",
            ]
        ),
        VALUES
        | st.sampled_from(
            [
                "application/json; charset*=bogus''%41",
                "text/html; q*0*=a'b'%zz",
                "multipart/form-data; boundary*=x''%ff",
            ]
        ),
        st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]),
    )
    @over_the_wire
    def test_of_the_gateways_own_pages(self, gateway, path, name, value, method):
        assume(name != "Expect" or "100" not in value)
        assert gateway.ask(method, path, f"{name}: {value}").status < 500


def test_responses_can_be_parsed():
    data = answer(b"one") + answer(b"two", status="404 Not Found")
    assert [(each.status, each.body) for each in responses(data)] == [(200, b"one"), (404, b"two")]
