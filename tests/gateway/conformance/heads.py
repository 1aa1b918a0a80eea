"""Request heads: name, bytes, allowed outcomes, and the section of RFC 9110 or 9112 that asks for one of them.

An outcome is the statuses of all answers in order, `-` for none. Cases after MDA2AV/Http11Probe (compliance, malformed
input, normalization); the bytes are our own.
"""

H = b"Host: localhost\r\n"
G = b"GET /api/users HTTP/1.1\r\n"
P = b"POST /api/users HTTP/1.1\r\n"
E = b"\r\n"
NEXT = b"GET /api/users/next HTTP/1.1\r\nHost: localhost\r\n\r\n"


def get(
    target: bytes = b"/api/users", version: bytes = b"HTTP/1.1", fields: bytes = b"", method: bytes = b"GET"
) -> bytes:
    return method + b" " + target + b" " + version + E + H + fields + E


HEADS = [
    # --- the plain case ---
    ("baseline", get(), "200", "9112 3"),
    ("two-on-one-connection", get() + NEXT, "200 200", "9112 9.3"),
    ("leading-crlf", E + E + get(), "200", "9112 2.2"),
    ("head-has-no-body", get(method=b"HEAD"), "200", "9110 9.3.2"),
    ("options", get(method=b"OPTIONS"), "200", "9110 9.3.7"),
    ("content-type-in-answer", get(fields=b"Accept: */*\r\n"), "200", "9110 8.3"),
    ("nonsense-accept", get(fields=b"Accept: nonsense\r\n"), "200", "9110 12.5.1"),
    ("invalid-range", get(fields=b"Range: bytes=abc-xyz\r\n"), "200", "9110 14.2"),
    ("many-ranges", get(fields=b"Range: bytes=" + b"0-,"*1000 + b"0-\r\n"), "200", "9110 14.2"),
    ("range-on-post", P + H + b"Content-Length: 5\r\nRange: bytes=0-10\r\n\r\nhello", "200", "9110 14.2"),
    ("unsupported-content-type", P + H + b"Content-Type: application/x-nothing\r\nContent-Length: 2\r\n\r\n{}", "200", "9110 15.5.16"),
    # --- lines ---
    ("bare-lf-request-line", b"GET /api/users HTTP/1.1\n" + H + E, "400", "9112 2.2"),
    ("bare-lf-header", G + b"Host: localhost\nX-Test: value\r\n\r\n", "400", "9112 2.2"),
    ("bare-lf-everywhere", b"GET /api/users HTTP/1.1\nHost: localhost\n\n", "400", "9112 2.2"),
    ("bare-cr-request-line", b"GET /api/users HTTP/1.1\r" + H + E, "400", "9112 2.2"),
    ("bare-cr-in-value", G + H + b"X: a\rb\r\n\r\n", "400", "9112 2.2"),
    ("blank-line-of-spaces", G + b" \r\n" + H + E, "400", "9112 2.2"),
    ("whitespace-only", b"   \r\n\r\n", "400", "9112 2.2"),
    ("obs-fold", G + H + b"X-Test: value\r\n continued\r\n\r\n", "400", "9112 5.2"),
    ("obs-fold-tab", G + H + b"X-Test: value\r\n\tcontinued\r\n\r\n", "400", "9112 5.2"),
    ("no-final-crlf", G + H + b"X-Test: value\r\n", "400", "9112 2.1"),
    ("nothing", b"", "-", "9112 9.5"),
    ("binary-garbage", bytes(range(128, 256)) * 2, "400", "9112 2.2"),
    ("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400", "9112 2.2"),
    # --- the request line ---
    ("many-spaces", b"GET  /api/users HTTP/1.1\r\n" + H + E, "400", "9112 3"),
    ("tab-for-space", b"GET\t/api/users HTTP/1.1\r\n" + H + E, "400", "9112 3"),
    ("trailing-space", b"GET /api/users HTTP/1.1 \r\n" + H + E, "400", "9112 3"),
    ("leading-space", b" GET /api/users HTTP/1.1\r\n" + H + E, "400", "9112 3"),
    ("no-target", b"GET HTTP/1.1\r\n" + H + E, "400", "9112 3"),
    ("space-in-target", get(b"/api/us ers"), "400", "9112 3.2"),
    ("fragment", get(b"/api/users#frag"), "400", "9112 3.2"),
    ("relative-target", get(b"api/users"), "400", "9112 3.2"),
    ("asterisk-get", get(b"*"), "400", "9112 3.2.4"),
    ("asterisk-options", get(b"*", method=b"OPTIONS"), "200", "9112 3.2.4"),
    ("absolute-form", get(b"http://localhost/api/users"), "200", "9112 3.2.2"),
    ("absolute-form-scheme-in-capitals", get(b"HTTP://localhost/api/users"), "200", "9112 3.2.2"),
    ("absolute-form-other-host", get(b"http://other.example/api/users"), "400", "9112 3.2.2"),
    ("absolute-form-bad-host-field", b"GET http://localhost/api/users HTTP/1.1\r\nHost: other.example\r\n\r\n", "200", "9112 3.2.2"),
    ("absolute-form-no-host-field", b"GET http://localhost/api/users HTTP/1.1\r\n\r\n", "400", "9112 3.2"),
    ("absolute-form-userinfo", get(b"http://user@localhost/api/users"), "400", "9110 4.2.4"),
    ("absolute-form-other-scheme", get(b"ftp://localhost/api/users"), "400", "9112 3.2.2"),
    ("authority-form-get", get(b"localhost:80"), "400", "9112 3.2.3"),
    ("nul-in-target", get(b"/api/users\x00"), "400", "9112 3.2"),
    ("non-ascii-target", get("/api/usérs".encode()), "400", "9112 3.2"),
    ("overlong-utf8-target", get(b"/api/users/\xc0\xaf"), "400", "9112 3.2"),
    ("backslash-in-target", get(b"/api/users\\x"), "400 404", "9112 3.2"),
    ("percent-nul", get(b"/api/users/%00"), "200", "9110 4.2"),
    ("percent-crlf", get(b"/api/users/%0d%0aX:%201"), "200", "9110 4.2"),
    ("dot-segments", get(b"/api/users/../../etc"), "400", "9110 4.2.3"),
    ("dot-segments-encoded", get(b"/api/users/%2e%2e/%2e%2e/etc"), "400", "9110 4.2.3"),
    ("target-of-8000", get(b"/api/users?" + b"x" * 7_989), "200", "9112 3"),
    ("target-of-8001", get(b"/api/users?" + b"x" * 7_990), "414", "9110 15.5.15"),
    ("target-of-100k", get(b"/" + b"x" * 100_000), "414", "9110 15.5.15"),
    # --- methods ---
    ("method-in-lower-case", get(method=b"get"), "501", "9110 9.1"),
    ("method-unknown", get(method=b"FOOBAR"), "200", "9110 9.1"),
    ("method-not-a-token", get(method=b"GE(T"), "400", "9110 9.1"),
    ("method-of-100k", get(method=b"A" * 100_000), "400", "9112 3"),
    ("connect", b"CONNECT localhost:443 HTTP/1.1\r\n" + H + E, "405", "9110 9.3.6"),
    ("connect-origin-form", get(method=b"CONNECT"), "400", "9112 3.2.3"),
    ("trace", get(method=b"TRACE"), "405", "9110 9.3.8"),
    ("trace-with-body", get(method=b"TRACE", fields=b"Content-Length: 5\r\n") + b"hello", "405", "9110 9.3.8"),
    ("trace-with-secrets", get(method=b"TRACE", fields=b"Authorization: Bearer x\r\n"), "405", "9110 9.3.8"),
    # --- versions ---
    ("http-0.9", b"GET /api/users\r\n", "400", "9112 2.3"),
    ("http-9.9", get(version=b"HTTP/9.9"), "400 505", "9110 15.6.6"),
    ("http-2.0", get(version=b"HTTP/2.0"), "400 505", "9110 15.6.6"),
    ("http-1.2", get(version=b"HTTP/1.2"), "200 505", "9110 2.5"),
    ("http-no-minor", get(version=b"HTTP/1"), "400", "9112 2.3"),
    ("http-leading-zeros", get(version=b"HTTP/01.01"), "400", "9112 2.3"),
    ("http-space-in-version", get(version=b"HTTP/ 1.1"), "400", "9112 2.3"),
    ("http-lower-case", get(version=b"http/1.1"), "400", "9112 2.3"),
    ("http-two-digits", get(version=b"HTTP/1.10"), "400", "9112 2.3"),
    ("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 505", "9113 3.4"),
    ("http-1.0-closes", get(version=b"HTTP/1.0") + NEXT, "200", "9112 9.3"),
    ("http-1.0-no-host", b"GET /health/live HTTP/1.0\r\n\r\n", "200", "9112 3.2"),
    ("http-1.0-no-interim", b"POST /api/users HTTP/1.0\r\n" + H + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", "200", "9110 15.2"),
    ("http-1.0-upgrade", get(version=b"HTTP/1.0", fields=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), "200", "9110 7.8"),
    # --- Host ---
    ("no-host", G + E, "400", "9112 3.2"),
    ("no-host-own-page", b"GET /health/live HTTP/1.1\r\n\r\n", "400", "9112 3.2"),
    ("no-host-metrics", b"GET /metrics HTTP/1.1\r\n\r\n", "400", "9112 3.2"),
    ("two-hosts", G + H + b"Host: other.example\r\n\r\n", "400", "9112 3.2"),
    ("two-same-hosts", G + H + H + E, "400", "9112 3.2"),
    ("host-list", G + b"Host: localhost, other.example\r\n\r\n", "400", "9112 3.2"),
    ("host-list-no-space", G + b"Host: localhost,other.example\r\n\r\n", "400", "9112 3.2"),
    ("host-empty", G + b"Host: \r\n\r\n", "400", "9112 3.2"),
    ("host-userinfo", G + b"Host: user@localhost\r\n\r\n", "400", "9112 3.2"),
    ("host-path", G + b"Host: localhost/path\r\n\r\n", "400", "9112 3.2"),
    ("host-port-too-large", G + b"Host: localhost:99999\r\n\r\n", "400", "9110 7.2"),
    ("host-port-endless", b"GET /api HTTP/1.1\r\nHost: localhost:99999999\r\n\r\n", "400", "9110 7.2"),
    ("host-port-no-number", G + b"Host: localhost:http\r\n\r\n", "400", "9110 7.2"),
    ("host-trailing-blank", G + b"Host: localhost \t\r\n\r\n", "200", "9110 5.5"),
    ("host-of-another", G + b"Host: other.example\r\n\r\n", "400", "9110 7.4"),
    # --- fields ---
    ("space-before-colon", G + H + b"X-Test : value\r\n\r\n", "400", "9112 5.1"),
    ("tab-in-name", G + H + b"Content\tLength: 5\r\n\r\n", "400", "9112 5.1"),
    ("empty-name", G + H + b": value\r\n\r\n", "400", "9112 5"),
    ("bracket-in-name", G + H + b"Bad[Name: value\r\n\r\n", "400", "9110 5.1"),
    ("no-colon", G + H + b"NoColonHere\r\n\r\n", "400", "9112 5"),
    ("non-ascii-name", G + H + "Xë: 1\r\n\r\n".encode(), "400", "9110 5.1"),
    ("control-in-value", G + H + b"X: a\x01b\r\n\r\n", "400", "9110 5.5"),
    ("nul-in-value", G + H + b"X: a\x00b\r\n\r\n", "400", "9110 5.5"),
    ("delete-in-value", G + H + b"X: a\x7fb\r\n\r\n", "400", "9110 5.5"),
    ("empty-value", G + H + b"X:\r\n\r\n", "200", "9110 5.5"),
    ("value-of-100k", G + H + b"X: " + b"x" * 100_000 + b"\r\n\r\n", "431", "6585 5"),
    ("name-of-100k", G + H + b"X" * 100_000 + b": 1\r\n\r\n", "431", "6585 5"),
    ("ten-thousand-fields", G + H + b"X: 1\r\n" * 10_000 + E, "431", "6585 5"),
    ("two-content-types", P + H + b"Content-Type: text/plain\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "400", "9110 5.3"),
    ("unknown-expectation", P + H + b"Expect: wonders\r\nContent-Length: 2\r\n\r\n{}", "200 417", "9110 10.1.1"),
    ("connection-close", get(fields=b"Connection: close\r\n") + NEXT, "200", "9112 9.6"),
    # --- offers to upgrade ---
    ("upgrade-post", P + H + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}" + NEXT, "200 200", "9110 7.8"),
    ("upgrade-no-connection", get(fields=b"Upgrade: websocket\r\n") + NEXT, "200 200", "9110 7.8"),
    ("upgrade-unknown", get(fields=b"Connection: Upgrade\r\nUpgrade: foo/7\r\n") + NEXT, "200 200", "9110 7.8"),
    ("upgrade-websocket-version", get(fields=b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 99\r\n") + NEXT, "200 200", "6455 4.4"),
    ("upgrade-h2c", P + H + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 2\r\n\r\n{}" + NEXT, "200 200", "9110 7.8"),
    # --- names that are nearly others ---
    ("underscored-length", P + H + b"Content_Length: 99\r\n\r\n" + NEXT, "200 200", "9110 8.6"),
    ("underscored-coding", P + H + b"Transfer_Encoding: chunked\r\n\r\n" + NEXT, "200 200", "9112 6.1"),
    ("space-before-colon-length", P + H + b"Content-Length : 2\r\n\r\n{}", "400", "9112 5.1"),
]  # fmt: skip
