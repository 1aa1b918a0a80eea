"""Message framing: name, bytes, allowed outcomes and section, as in `heads.py`.

The cases follow MDA2AV/Http11Probe (smuggling, and the bodies of compliance); the bytes are original. `NEXT` after a case
shows whether the gateway treats it as a request, as a part of the body, or ignores it.
"""

from tests.gateway.conformance.heads import NEXT, E, H, P, get

CHUNKED = b"Transfer-Encoding: chunked\r\n"
HIDDEN = b"GET /api/users/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"


def length(value: bytes, body: bytes = b"hello", more: bytes = b"") -> bytes:
    return P + H + b"Content-Length: " + value + E + more + E + body


def coding(value: bytes, body: bytes = b"5\r\nhello\r\n0\r\n\r\n", more: bytes = b"") -> bytes:
    return P + H + b"Transfer-Encoding: " + value + E + more + E + body


def chunks(body: bytes) -> bytes:
    return P + H + CHUNKED + E + body


LENGTHS = [
    ("length", length(b"5") + NEXT, "200 200", "9112 6.2"),
    ("length-zero", length(b"0", b"") + NEXT, "200 200", "9112 6.2"),
    ("no-length-no-coding", P + H + E + NEXT, "200 200", "9112 6.3"),
    ("length-short-body", length(b"10"), "400", "9112 6.3"),
    ("length-huge-no-body", length(b"999999999", b""), "413", "9110 15.5.14"),
    ("length-no-number", length(b"abc"), "400", "9110 8.6"),
    ("length-plus", length(b"+5"), "400", "9110 8.6"),
    ("length-negative", length(b"-1"), "400", "9110 8.6"),
    ("length-negative-zero", length(b"-0"), "400", "9110 8.6"),
    ("length-hexadecimal", length(b"0x5"), "400", "9110 8.6"),
    ("length-octal", length(b"0o5"), "400", "9110 8.6"),
    ("length-underscore", length(b"1_0"), "400", "9110 8.6"),
    ("length-inner-space", length(b"1 0"), "400", "9110 8.6"),
    ("length-empty", length(b""), "400", "9110 8.6"),
    ("length-overflow", length(b"9" * 30), "400 413", "9110 8.6"),
    ("length-fullwidth-digit", length(b"\xef\xbc\x95"), "400", "9110 8.6"),
    ("length-leading-zeros", length(b"005") + NEXT, "200 200", "9110 8.6"),
    ("length-two-zeros", length(b"00", b"") + NEXT, "200 200", "9110 8.6"),
    ("length-leading-zeros-no-octal", length(b"010", b"0123456789") + NEXT, "200 200", "9110 8.6"),
    ("length-trailing-space", length(b"5 ") + NEXT, "200 200", "9110 5.5"),
    ("length-two-spaces", length(b" 5") + NEXT, "200 200", "9110 5.5"),
    ("length-tab", length(b"\t5\t") + NEXT, "200 200", "9110 5.5"),
    ("length-twice", length(b"5", more=b"Content-Length: 6\r\n"), "400", "9110 8.6"),
    ("length-twice-same", length(b"5", more=b"Content-Length: 5\r\n"), "400", "9110 8.6"),
    ("length-list", length(b"5, 6"), "400", "9110 8.6"),
    ("length-list-same", length(b"5, 5"), "400", "9110 8.6"),
    ("length-list-of-three", length(b"5, 5, 5"), "400", "9110 8.6"),
    ("length-list-hides-request", length(b"0, 55", HIDDEN), "400", "9110 8.6"),
    ("length-on-get", get(fields=b"Content-Length: 5\r\n") + b"hello" + NEXT, "200 200", "9110 9.3.1"),
    ("length-on-get-hides-request", get(fields=b"Content-Length: %d\r\n" % len(HIDDEN)) + HIDDEN + NEXT, "200 200", "9110 9.3.1"),
    ("length-on-get-half-a-request", get(fields=b"Content-Length: 19\r\n") + b"GET /hidden HTTP/1." + NEXT, "200 200", "9110 9.3.1"),
    ("length-on-head", get(method=b"HEAD", fields=b"Content-Length: 5\r\n") + b"hello" + NEXT, "200 200", "9110 9.3.2"),
    ("length-on-options", get(method=b"OPTIONS", fields=b"Content-Length: 5\r\n") + b"hello" + NEXT, "200 200", "9110 9.3.7"),
    ("length-on-own-page", get(b"/health/live", fields=b"Content-Length: %d\r\n" % len(HIDDEN)) + HIDDEN, "200", "9110 9.3.1"),
    ("expect-continue", length(b"5", more=b"Expect: 100-continue\r\n") + NEXT, "200 200", "9110 10.1.1"),
]  # fmt: skip

CODINGS = [
    ("chunked", coding(b"chunked") + NEXT, "200 200", "9112 7.1"),
    ("chunked-case", coding(b"cHuNkEd") + NEXT, "200 200", "9112 7"),
    ("chunked-name-case", P + H + b"TRANSFER-ENCODING: chunked\r\n\r\n0\r\n\r\n" + NEXT, "200 200", "9110 5.1"),
    ("chunked-tab-before", P + H + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + NEXT, "200 200", "9110 5.5"),
    ("chunked-trailing-space", coding(b"chunked ") + NEXT, "200 200", "9110 5.5"),
    ("coding-unknown", coding(b"gzip"), "400 501", "9112 6.1"),
    ("coding-xchunked", coding(b"xchunked"), "400 501", "9112 6.1"),
    ("coding-identity", coding(b"identity"), "400 501", "9112 7"),
    ("coding-gzip-chunked", coding(b"gzip, chunked"), "501", "9112 6.1"),
    ("coding-not-last", coding(b"chunked, gzip"), "400", "9112 6.3"),
    ("coding-twice", coding(b"chunked, chunked"), "400", "9112 6.1"),
    ("coding-two-fields", coding(b"chunked", more=b"Transfer-Encoding: identity\r\n"), "400", "9112 6.3"),
    ("coding-empty", coding(b""), "400", "9112 6.1"),
    ("coding-leading-comma", coding(b", chunked"), "400", "9110 5.6.1"),
    ("coding-trailing-comma", coding(b"chunked,"), "400", "9110 5.6.1"),
    ("coding-params", coding(b"chunked;foo=bar"), "400", "9112 7"),
    ("coding-quoted", coding(b'"chunked"'), "400", "9112 7"),
    ("coding-space-before-colon", P + H + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400", "9112 5.1"),
    ("coding-vertical-tab", coding(b"\x0bchunked"), "400", "9110 5.5"),
    ("coding-form-feed", coding(b"\x0cchunked"), "400", "9110 5.5"),
    ("coding-nul", coding(b"chunked\x00"), "400", "9110 5.5"),
    ("coding-folded", P + H + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400", "9112 5.2"),
    ("coding-folded-with-length", P + H + b"Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + NEXT, "400", "9112 5.2"),
    ("coding-folded-on-options", b"OPTIONS /api/users HTTP/1.1\r\n" + H + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\nhello" + NEXT, "400", "9112 5.2"),
    ("coding-http-1.0", b"POST /api/users HTTP/1.0\r\n" + H + CHUNKED + b"\r\n0\r\n\r\n", "400", "9112 6.1"),
    ("both", coding(b"chunked", more=b"Content-Length: 6\r\n"), "400", "9112 6.1"),
    ("both-other-order", length(b"6", b"0\r\n\r\nX", CHUNKED), "400", "9112 6.1"),
    ("both-closes", length(b"6", b"0\r\n\r\nX", CHUNKED) + NEXT, "400", "9112 6.1"),
    ("both-hides-request", length(b"%d" % (5 + len(HIDDEN)), b"0\r\n\r\n" + HIDDEN, CHUNKED) + NEXT, "400", "9112 6.1"),
    ("both-hides-head", length(b"5", b"0\r\n\r\n" + HIDDEN.replace(b"GET", b"HEAD"), CHUNKED), "400", "9112 6.1"),
    ("both-plus", length(b"+5", b"0\r\n\r\n" + HIDDEN, CHUNKED), "400", "9112 6.1"),
    ("both-no-number", length(b"5x", b"0\r\n\r\n" + HIDDEN, CHUNKED), "400", "9112 6.1"),
    ("both-trailing-space", length(b"5", b"0\r\n\r\n" + HIDDEN, b"Transfer-Encoding: chunked \r\n"), "400", "9112 6.1"),
    ("both-leading-comma", length(b"5", b"0\r\n\r\n" + HIDDEN, b"Transfer-Encoding: , chunked\r\n"), "400", "9112 6.1"),
    ("both-case", length(b"5", b"0\r\n\r\n" + HIDDEN, b"Transfer-Encoding: Chunked\r\n"), "400", "9112 6.1"),
    ("both-two-codings", length(b"5", b"0\r\n\r\n" + HIDDEN, CHUNKED + b"Transfer-Encoding: cow\r\n"), "400", "9112 6.1"),
    ("both-prefix-trick", length(b"4", b"5c\r\n" + HIDDEN, CHUNKED), "400", "9112 6.1"),
]  # fmt: skip

CHUNKS = [
    ("chunks-several", chunks(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") + NEXT, "200 200", "9112 7.1"),
    ("chunks-none", chunks(b"0\r\n\r\n") + NEXT, "200 200", "9112 7.1"),
    ("chunks-capitals", chunks(b"A\r\n0123456789\r\n0\r\n\r\n") + NEXT, "200 200", "9112 7.1"),
    ("chunks-leading-zeros", chunks(b"0005\r\nhello\r\n000\r\n\r\n") + NEXT, "200 200", "9112 7.1"),
    ("chunks-no-end", chunks(b"5\r\nhello\r\n"), "400", "9112 8"),
    ("chunks-extension", chunks(b"5;a=b\r\nhello\r\n0\r\n\r\n") + NEXT, "200 200", "9112 7.1.1"),
    ("chunks-extension-quoted", chunks(b'5;a="b;c\\"d"\r\nhello\r\n0;x\r\n\r\n') + NEXT, "200 200", "9112 7.1.1"),
    ("chunks-extension-no-name", chunks(b"5;\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1.1"),
    ("chunks-extension-no-token", chunks(b"5;a[=b\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1.1"),
    ("chunks-extension-lf", chunks(b"5;a\nhello\r\n0\r\n\r\n"), "400", "9112 7.1.1"),
    ("chunks-extension-cr", chunks(b"5;a\rX\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1.1"),
    ("chunks-extension-nul", chunks(b"5;a\x00\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1.1"),
    ("chunks-extension-of-64k", chunks(b"5;a=" + b"x" * 65_536 + b"\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1.1"),
    ("chunks-extensions-without-end", chunks((b"1;a=" + b"x" * 1000 + b"\r\nX\r\n") * 50 + b"0\r\n\r\n"), "400", "9112 7.1.1"),
    ("chunks-underscore", chunks(b"1_0\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-0x", chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-plus", chunks(b"+5\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-plus-zero", chunks(b"+0\r\n\r\nX") + NEXT, "400", "9112 7.1"),
    ("chunks-negative", chunks(b"-5\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-leading-space", chunks(b" 5\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-trailing-space", chunks(b"5 \r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-overflow", chunks(b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-huge", chunks(b"FFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), "400 413", "9112 7.1"),
    ("chunks-empty-size", chunks(b"\r\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-no-crlf-behind", chunks(b"5\r\nhello0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-spill", chunks(b"5\r\nhelloXX\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-lf-behind", chunks(b"5\r\nhello\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-lf-behind-size", chunks(b"5\nhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-cr-behind-size", chunks(b"5\rhello\r\n0\r\n\r\n"), "400", "9112 7.1"),
    ("chunks-lf-at-the-end", chunks(b"5\r\nhello\r\n0\r\n\n"), "400", "9112 7.1"),
    ("trailer", chunks(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n") + NEXT, "200 200", "9112 7.1.2"),
    ("trailer-length", chunks(b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n") + NEXT, "200 200", "9110 6.5.1"),
    ("trailer-coding", chunks(b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n") + NEXT, "200 200", "9110 6.5.1"),
    ("trailer-host", chunks(b"5\r\nhello\r\n0\r\nHost: other.example\r\n\r\n") + NEXT, "200 200", "9110 6.5.1"),
    ("trailer-secret", chunks(b"5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\n\r\n") + NEXT, "200 200", "9110 6.5.1"),
    ("trailer-content-type", chunks(b"5\r\nhello\r\n0\r\nContent-Type: text/evil\r\n\r\n") + NEXT, "200 200", "9110 6.5.1"),
    ("trailer-no-field", chunks(b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n"), "400", "9112 7.1.2"),
    ("trailers-without-end", chunks(b"0\r\n" + b"X: 1\r\n" * 5000 + b"\r\n"), "400", "9112 7.1.2"),
]  # fmt: skip

FRAMING = [*LENGTHS, *CODINGS, *CHUNKS]
