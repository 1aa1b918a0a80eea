"""The table of hostile and unusual requests with their allowed outcomes; docs/conformance.md has counts and reasons."""

import re

import pytest

from tests.gateway.clients import ROOT
from tests.gateway.conformance.framing import FRAMING
from tests.gateway.conformance.heads import HEADS, NEXT, H, P
from tests.gateway.conformance.llhttp import LLHTTP
from tests.gateway.conformance.talking import exchange

CASES = [
    *((f"heads/{name}", *rest) for name, *rest in HEADS),
    *((f"framing/{name}", *rest) for name, *rest in FRAMING),
    *((f"llhttp/{name}", *rest) for name, *rest in LLHTTP),
]


def allowed(outcomes):
    """`400 501` is either of them where each is one answer; `200 200|400` names whole outcomes."""
    if "|" in outcomes:
        return set(outcomes.split("|"))
    return {outcomes} if outcomes.startswith(("200 2", "200 400")) else set(outcomes.split(" "))


@pytest.mark.parametrize(("data", "outcomes"), [case[1:3] for case in CASES], ids=[case[0] for case in CASES])
def test_case(gateway, users, data, outcomes):
    received = exchange(gateway, data)
    statuses = [answer.status for answer in received]
    assert " ".join(map(str, statuses)) in allowed(outcomes) or (not statuses and outcomes == "-")
    for answer in received:
        if answer.status >= 400:
            assert answer.type == "application/problem+json"
    assert not [request for request in users.requests if "hidden" in request.target]
    # Whoever comes next gets an answer of its own.
    assert gateway.ask("GET", "/api/users/after").body == b"/users/after"


def test_each_case_has_a_name_of_its_own_and_a_section():
    assert len({case[0] for case in CASES}) == len(CASES)
    assert all(re.fullmatch(r"\d{4} [\d.]+", case[3]) for case in CASES)


def test_the_counts_in_the_documents_are_right():
    text = (ROOT / "docs/conformance.md").read_text()
    for count in (len(HEADS), len(FRAMING), len(LLHTTP), len(PLACES) * len(BYTES)):
        assert f"| {count} |" in text, count


# --- after defparam/smuggler: one byte in every place of a Transfer-Encoding field ---

BYTES = range(1, 256)
PLACES = {
    "before-the-value": "Transfer-Encoding:{}chunked",
    "before-the-colon": "Transfer-Encoding{}: chunked",
    "before-the-name": "{}Transfer-Encoding: chunked",
    "behind-the-value": "Transfer-Encoding: chunked{}",
    "in-the-name": "Transfer{}Encoding: chunked",
    "in-the-value": "Transfer-Encoding: ch{}nked",
    "behind-another-field": "X: X{}Transfer-Encoding: chunked",
    "before-another-field": "Transfer-Encoding: chunked{}X: X",
    "behind-a-cr": "X: X\r{}Transfer-Encoding: chunked",
    "before-a-lf": "X: X{}\nTransfer-Encoding: chunked",
    "cr-then": "Transfer-Encoding: chunked\r{}X: X",
    "then-lf": "Transfer-Encoding: chunked{}\nX: X",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "body", [b"0\r\n\r\n" + NEXT.replace(b"next", b"hidden"), b"1\r\nX\r\nQ"], ids=["cl.te", "te.cl"]
)
def test_a_coding_in_disguise(gateway, users, place, body):
    """With a length beside it, the body is that long, or the request is refused."""
    for byte in BYTES:
        field = PLACES[place].format(chr(byte)).encode("latin-1")
        users.requests.clear()
        data = P + H + field + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        statuses = [answer.status for answer in exchange(gateway, data + NEXT)]
        if statuses == [200, 200]:
            assert [(request.target, request.body) for request in users.requests] == [
                ("/users", body),
                ("/users/next", b""),
            ], field
        else:
            assert statuses in ([400], [501]), (field, statuses)
            assert not users.requests, field


def test_a_coding_in_disguise_that_two_readers_agree_on(gateway, users):
    """Blanks around the value are none of its own: chunked, and so refused with a length, taken without one."""
    for blanks in (" ", "\t", " \t "):
        field = f"Transfer-Encoding:{blanks}chunked{blanks}\r\n".encode()
        assert [
            answer.status for answer in exchange(gateway, P + H + field + b"Content-Length: 5\r\n\r\n0\r\n\r\n")
        ] == [400]
        assert [answer.status for answer in exchange(gateway, P + H + field + b"\r\n0\r\n\r\n" + NEXT)] == [200, 200]
