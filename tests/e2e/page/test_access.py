"""Signing in, and rights: the page of a gateway with tokens."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.gateways import gateways
from tests.support.published import conversation, published
from workers.gateway.access import new_token


def test_a_token_is_asked_for(browser: Browser, tmp_path: Path, redis_url: str, ray_address: str) -> None:
    """On a page of its own; who may only read is offered nothing else."""
    secret, entry = new_token("desk", ["read"])
    (tmp_path / "tokens.toml").write_text(entry)
    session = published(conversation(redis_url, 3))
    options = ("--redis", redis_url, "--ray-address", ray_address, "--tokens", str(tmp_path / "tokens.toml"))
    with gateways(tmp_path, 1, *options) as (guarded,):
        page = browser.new_page()
        page.goto(f"{guarded.http}/#session={session}")
        page.get_by_label("Access token").fill("wrong")
        expect(page.locator("#session-header")).to_have_count(0)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#token-message")).to_contain_text("does not accept")
        page.get_by_label("Access token").fill(secret)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#utterance-2")).to_be_visible(timeout=20_000)  # over a WebSocket with the token
        expect(page.get_by_role("button", name="Make a rule")).to_have_count(0)
        expect(page.get_by_label("Note at this moment")).to_have_count(0)
        page.goto(f"{guarded.http}/#home")
        expect(page.locator("#past tbody tr").first).to_be_visible()
        expect(page.get_by_role("button", name="Delete")).to_have_count(0)
        page.close()


def test_the_printed_address_signs_in(browser: Browser, tmp_path: Path, redis_url: str, ray_address: str) -> None:
    """The token leaves the address bar, and stays for the tab: for another view, and the interface's page."""
    session = published(conversation(redis_url, 3))
    with gateways(tmp_path, 1, "--redis", redis_url, "--ray-address", ray_address, invited=True) as (one,):
        found = re.search(r"http://\S+/#token=\S+", one.log.read_text())
        assert found
        page = browser.new_page()
        page.goto(found[0])
        expect(page.locator("#past")).to_be_visible(timeout=20_000)
        assert page.url == f"{one.http}/"
        page.goto(f"{one.http}/#session={session}")
        expect(page.locator("#utterance-2")).to_be_visible(timeout=20_000)
        expect(page.locator("#token-form")).to_have_count(0)
        page.goto(f"{one.http}/docs")
        page.get_by_text("/me", exact=True).click(timeout=20_000)
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table")).to_contain_text("loopback", timeout=20_000)
        page.close()
