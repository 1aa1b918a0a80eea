"""Payloads, keys and headers as pages show them."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import payloads

MEBIBYTE = 1_048_576


def test_json_is_indented_and_personal_data_hidden_until_asked_for():
    value = json.dumps({"email": "ada@example.org", "amount": 1.50, "deep": [{"name": "Ada"}]}).encode()
    hidden = payloads.shown(value, reveal=False)
    assert (hidden.kind, hidden.masked, hidden.size, hidden.cut) == ("json", True, len(value), False)
    assert "ada@example.org" not in hidden.text
    assert "Ada" not in hidden.text
    assert '  "amount": 1.5' in hidden.text
    revealed = payloads.shown(value, reveal=True)
    assert json.loads(revealed.text) == json.loads(value)
    assert not revealed.masked


def test_numbers_stay_as_they_are():
    text = b'{"amount":10.00,"big":1234567890123456789012,"text":"\\u0000 1.50","list":[1e5]}'
    assert payloads.shown(text, reveal=True).text.splitlines() == [
        "{",
        '  "amount": 10.00,',
        '  "big": 1234567890123456789012,',
        '  "text": "\\u0000 1.50",',
        '  "list": [',
        "    1e5",
        "  ]",
        "}",
    ]


@pytest.mark.parametrize("value", [b"\xff\x00 junk", b"plain text", b"[" * 200_000, b"9" * 5_000, b'"Ada"'])
def test_what_is_not_json_is_hidden_until_asked_for(value):
    assert payloads.shown(value, reveal=False).text is None
    assert payloads.shown(value, reveal=True).text
    assert "hidden" in payloads.preview(value) or "bytes" in payloads.preview(value)


def test_binary_is_hexadecimal():
    shown = payloads.shown(bytes(range(256)), reveal=True)
    assert shown.kind == "binary"
    lines = shown.text.splitlines()
    assert lines[4] == "00000040  " + " ".join(f"{n:02x}" for n in range(64, 80)) + "  @ABCDEFGHIJKLMNO"
    assert len(lines) == 16


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (os.urandom(3 * MEBIBYTE), "binary"),
        ("é".encode() * 2 * MEBIBYTE, "text"),
        (json.dumps([{"i": i} for i in range(300_000)]).encode(), "text"),
        (b"x" * 500_000, "text"),
        (json.dumps({str(i): i for i in range(20_000)}).encode(), "json"),
    ],
)
def test_a_huge_one_is_cut_and_its_size_said(value, kind):
    shown = payloads.shown(value, reveal=True)
    assert (shown.kind, shown.cut, shown.size) == (kind, True, len(value))
    assert 0 < len(shown.text) < 5 * payloads.LONGEST


def test_none_and_nothing():
    assert payloads.shown(None, reveal=False).kind == "none"
    assert payloads.preview(None) == "no value"
    assert payloads.shown(b"", reveal=False).text == ""


def test_what_no_page_can_show_is_escaped():
    shown = payloads.shown(b'{"n": "\\ud800 \xe2\x80\xae \\u0000"}', reveal=True)
    assert shown.text.encode()
    assert "\u202e" not in shown.text
    assert "\\ud800" in shown.text
    assert payloads.visible("a\x00b\u202e\n\t") == "a\\x00b\\u202e\n\t"


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_can_be_shown(value):
    for reveal in (True, False):
        (payloads.shown(value, reveal=reveal).text or "").encode()
    payloads.preview(value).encode()


KEYS = st.binary(max_size=60) | st.text(max_size=40).map(str.encode) | st.binary(min_size=480, max_size=520)
ODD_KEYS = [
    b"",
    b"0xff",
    b"0x",
    b"sha256:",
    b"\\x00",
    b"\x00",
    "\u202ekey\x00".encode(),
    b"\r\n",
    b"\\U00110000",
    b"k" * 500_000,
]


@given(KEYS | st.sampled_from(ODD_KEYS))
def test_a_key_is_found_by_its_filter_and_by_what_is_shown_of_it(key):
    text = payloads.key_filter(key)
    assert len(text) <= payloads.LONGEST_KEY_FILTER
    assert payloads.has_key(text)(key)
    shown = payloads.key_text(key)
    shown.encode()
    assert payloads.has_key(shown)(key) or "\\" in key.decode("utf-8", "ignore")


@given(KEYS | st.sampled_from(ODD_KEYS), KEYS | st.sampled_from(ODD_KEYS))
def test_the_filter_of_a_key_finds_no_other(key, other):
    text = payloads.key_filter(key)
    assert payloads.has_key(text)(other) == (key == other) or other == text.encode()
    assert not payloads.has_key(text)(None)


def test_headers():
    pairs = [("name", b"Ada"), ("x", b"\xff"), ("null", None), ("requestId", b"r\x001")]
    assert payloads.header_rows(pairs, reveal=True) == [
        ("name", "Ada"),
        ("x", "0xff"),
        ("null", "(none)"),
        ("requestId", "r\\x001"),
    ]
    assert payloads.header_rows(pairs, reveal=False)[:2] == [("name", "[hidden]"), ("x", "[hidden]")]
