"""Swagger UI at the gateway, under its content security policy."""

import re

from playwright.sync_api import expect


def test_the_documentation_is_shown_without_policy_violations(site, browser):
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{site.gateway}/api/docs")
    expect(page.locator(".swagger-ui .info .title")).to_contain_text("API", timeout=20_000)
    expect(page.locator(".opblock-summary-path").first).to_be_visible()
    page.goto(f"{site.gateway}/")
    expect(page.locator("h1")).to_have_css("font-family", re.compile("^system-ui, "))
    assert [text for text in said if "Content Security Policy" in text or "Content-Security-Policy" in text] == []
    page.close()
