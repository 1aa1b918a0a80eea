"""Who may use the console, and what the browser is told."""

import re
import subprocess
import sys
from urllib.parse import quote

import pytest

from tests.console.running import ROOT, TOKEN

PAGES = ["/", "/stories", "/topics", "/dead-letters", "/catalogue", "/break"]


def cookie(console) -> str:
    answer = console.ask(f"/stories?token={quote(TOKEN)}&status=failed")
    assert answer.status == 302, answer.text
    assert answer.headers["Location"] == "/stories?status=failed"
    return answer.headers["Set-Cookie"]


class TestToken:
    @pytest.mark.parametrize("path", [*PAGES, "/stories/0123.json", "/no-such-page"])
    def test_without_it_there_is_nothing(self, console, path):
        answer = console.ask(path)
        assert answer.status == 401
        assert "has printed" in answer.text

    def test_in_the_address_it_is_exchanged_for_a_cookie(self, console):
        given = cookie(console)
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in given.split(";")}
        assert TOKEN not in given
        assert console.ask("/stories", Cookie=given.partition(";")[0]).status == 200

    @pytest.mark.parametrize("path", ["//example.org/", "//example.org/%2e%2e", "/\\example.org"])
    def test_the_exchange_leads_to_no_other_site(self, console, path):
        answer = console.ask(f"{path}?token={quote(TOKEN)}")
        assert re.match(r"/[^/\\]", answer.headers["Location"]) or answer.headers["Location"] == "/"

    @pytest.mark.parametrize("wrong", ["wrong", "", TOKEN[:-1], TOKEN + "0", "%FF%00", "é"])
    def test_a_wrong_one_is_rejected(self, console, wrong):
        assert console.ask(f"/?token={quote(wrong)}").status == 401
        assert console.ask("/", Authorization=f"Bearer {wrong}".strip()).status == 401

    def test_a_wrong_cookie_is_rejected(self, console):
        assert console.ask("/", Cookie=f"console_{console.port}={'0' * 64}").status == 401
        assert console.ask("/", Cookie=f"console_{console.port}={TOKEN.replace(' ', '')}").status == 401

    def test_a_program_sends_it_in_a_header(self, console):
        assert console.get("/stories").status == 200

    @pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
    def test_probes_need_none(self, console, path):
        assert console.ask(path).json()["status"] == "live"


class TestOtherSites:
    """What a page of another origin can send with the browser's cookie."""

    @pytest.mark.parametrize(
        "host", ["example.org", "127.0.0.1", "127.0.0.1:1", "example.org:{port}", "[::1]:{port}", ""]
    )
    def test_a_name_that_resolves_to_this_machine_is_of_no_use(self, console, host):
        answer = console.ask("/stories", Host=host.format(port=console.port), **console.authorization)
        assert answer.status in {400, 403}

    def test_localhost_is_this_machine(self, console):
        assert console.ask("/stories", Host=f"localhost:{console.port}", **console.authorization).status == 200

    @pytest.mark.parametrize(
        ("headers", "allowed"),
        [
            ({"Sec_Fetch_Site": "same-origin"}, True),
            ({"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, True),
            ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, True),
            ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, False),
            ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}, False),
            ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}, False),
            ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"}, False),
        ],
    )
    def test_they_may_link_to_a_page_and_nothing_else(self, console, headers, allowed):
        given = cookie(console).partition(";")[0]
        assert console.ask("/stories", Cookie=given, **headers).status == (200 if allowed else 403)

    @pytest.mark.parametrize(
        ("headers", "allowed"),
        [
            ({"Origin": "{own}", "Sec_Fetch_Site": "same-origin"}, True),
            ({"Origin": "{own}"}, True),
            ({}, False),
            ({"Origin": "null"}, False),
            ({"Origin": "http://127.0.0.1:8000", "Sec_Fetch_Site": "same-site"}, False),
            ({"Origin": "http://127.0.0.1:8000"}, False),
            ({"Origin": "https://example.org", "Sec_Fetch_Site": "cross-site"}, False),
            ({"Sec_Fetch_Site": "none"}, False),
            ({"Origin": "http://[", "Sec_Fetch_Site": "same-origin"}, False),
        ],
    )
    def test_they_may_write_nothing(self, console, headers, allowed):
        given = cookie(console).partition(";")[0]
        sent = {name: value.format(own=console.url) for name, value in headers.items()}
        status = console.ask("/stories", "POST", b"", Cookie=given, **sent).status
        assert status == (405 if allowed else 403)

    def test_a_program_may_write_with_the_token(self, console):
        assert console.ask("/stories", "POST", b"", **console.authorization).status == 405
        assert console.ask("/stories", "POST", b"", Origin="https://example.org", **console.authorization).status == 403

    def test_they_cannot_send_spans(self, console):
        given = cookie(console).partition(";")[0]
        assert console.ask("/v1/traces", "POST", b"", Cookie=given, Origin=console.url).status == 401
        assert console.ask("/v1/traces", "POST", b"").status == 403
        assert console.export(b"", Sec_Fetch_Site="same-origin", Origin=console.url).status == 401
        assert console.export(b"").status == 200


class TestHeaders:
    @pytest.mark.parametrize("path", [*PAGES, "/no-such-page", "/static/console/base.css"])
    def test_only_the_consoles_own_scripts_and_styles_are_allowed(self, console, path):
        answer = console.get(path)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Content-Length" in answer.headers

    @pytest.mark.parametrize("path", PAGES)
    def test_pages_have_no_inline_script_or_style(self, console, path):
        page = console.get(path).text
        assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
        assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", page) == []
        assert page.count('aria-current="page"') == 1

    def test_pages_are_not_kept(self, console):
        assert console.get("/stories").headers["Cache-Control"] == "no-store"


class TestFailures:
    def test_an_unknown_page_says_so(self, console):
        answer = console.get("/no-such-page")
        assert answer.status == 404
        assert "There is no such page." in answer.text

    def test_a_form_that_is_too_large_is_a_page_that_says_so(self, console):
        form = {"Content_Type": "application/x-www-form-urlencoded", **console.authorization}
        body = b"step=check&why=x&operator=me&payload="
        # The longest payload that can be edited gets as far as the service, which is away.
        assert console.ask("/dead-letters/orders/d-1/edit", "POST", body + b"%22" * 1_048_576, **form).status == 503
        answer = console.ask("/dead-letters/orders/d-1/edit", "POST", body + b"x" * 20_000_000, **form)
        assert answer.status == 413
        assert "A form may have 13,631,488 bytes." in answer.text
        assert '<nav aria-label="Pages">' in answer.text

    def test_a_form_that_cannot_be_read_is_a_page_that_says_so(self, console):
        form = {"Content_Type": "application/x-www-form-urlencoded", **console.authorization}
        answer = console.ask("/dead-letters/orders/decide", "POST", b"&".join([b"id=1"] * 2_000), **form)
        assert answer.status == 400
        assert '<nav aria-label="Pages">' in answer.text

    def test_for_htmx_it_is_a_fragment(self, console):
        assert "<html" not in console.get("/no-such-page", HX_Request="true").text

    def test_for_json_it_is_a_problem(self, console):
        answer = console.get("/stories/unknown.json")
        assert answer.status == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "is in memory" in answer.json()["detail"]


class TestCommand:
    def test_in_production_it_refuses_and_says_what_to_use(self):
        done = manage(ENVIRONMENT="production")
        assert done.returncode == 1
        assert "In production use each service's admin" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_short_token_is_refused_without_showing_it(self):
        done = manage(ENVIRONMENT="development", CONSOLE_TOKEN="too short")
        assert done.returncode == 1
        assert "CONSOLE_TOKEN: must have at least 16 characters" in done.stderr
        assert "too short" not in done.stderr

    def test_processes_that_cannot_be_read_are_named(self):
        done = manage(ENVIRONMENT="development", CONSOLE_PROCESSES="{}}")
        assert done.returncode != 0
        assert "CONSOLE_PROCESSES" in done.stderr
        assert "Traceback" not in done.stderr


def manage(**environment: str) -> subprocess.CompletedProcess:
    variables = {"PATH": "/usr/bin:/bin", "LOG_FORMAT": "console", "CONSOLE_PORT": "1", **environment}
    argv = [sys.executable, "manage.py", "console", "--settings=settings.console"]
    return subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=60)
