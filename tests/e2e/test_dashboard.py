"""The page in a real browser, with a fake microphone and camera, against a real gateway."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from stream import events
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from tests.support.browsers import CHROMIUM, SLOW
from tests.support.gateways import Gateway, gateways
from tests.support.paths import DEMO
from tests.support.recordings import RATE, write_wav
from workers.gateway.access import new_token


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("dashboard")
    with gateways(folder, 1, "--redis", redis_url, "--ray-address", ray_address) as (one,):
        yield one


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, demo_audio) -> Iterator[Browser]:
    """Chromium whose microphone hears the demo conversation."""
    said = write_wav(
        tmp_path_factory.mktemp("microphone") / "said.wav", demo_audio.sum(0, keepdims=True)[:, : 20 * RATE]
    )
    switches = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    switches.append(f"--use-file-for-fake-audio-capture={said}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, gateway: Gateway) -> Iterator[Page]:
    """The dashboard; whatever the browser complains of fails the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", complain)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(gateway.http)
    yield page
    page.close()
    assert complaints == []


def test_the_page_says_what_is_being_loaded_until_it_is_there(page: Page) -> None:
    """The server's answers are the test's: models load but once."""
    loading = ["Whisper base", "checkpoint meld"]
    page.route("**/readyz", lambda route: route.fulfill(json={"loading": loading}))
    page.reload()
    expect(page.locator("#loading")).to_have_text(re.compile("^Loading Whisper base, checkpoint meld …"))
    loading.pop()
    expect(page.locator("#loading")).to_have_text(re.compile("^Loading Whisper base …"))
    loading.pop()
    expect(page.locator("#loading")).to_be_hidden()


def test_a_session_that_is_not_there(browser: Browser, gateway: Gateway) -> None:
    """The message, and the list of sessions: no charts, and nothing to export."""
    page = browser.new_page()
    page.goto(f"{gateway.http}/#session=nope")
    expect(page.locator("#session-message")).to_have_text("no session 'nope'")
    expect(page.locator("#sessions")).to_be_visible()
    for part in ("#exports", "#summary", "#player", "#charts", "#transcript", "#influence", "#encoders"):
        expect(page.locator(part)).to_be_hidden()
    page.close()


def test_a_session_from_microphone_and_camera(page: Page) -> None:
    """Started in the page: the notice that one is analysed, the speaker, labels, what was heard and seen, the end."""
    page.get_by_label("Consent", exact=True).fill("Nobody: the voices are synthetic")
    page.get_by_label("Participant’s name").fill("Mara")
    page.get_by_label("Use the camera too").check()
    page.get_by_role("button", name="Start listening").click()
    expect(page.locator("#analysis-bar")).to_be_visible(timeout=SLOW)
    expect(page.locator("#analysis-status")).to_contain_text("analysed", ignore_case=True)
    first = page.locator("article.final").first
    expect(first).to_be_visible(timeout=SLOW)
    expect(first).to_contain_text("Mara")
    expect(first).to_contain_text("voice")
    expect(first).to_contain_text("face")  # missing, for the fake camera shows none
    expect(page.locator("#timeline")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#summary-state")).to_contain_text("ended", timeout=SLOW)
    expect(page.locator("#analysis-bar")).to_be_hidden()


def test_a_recording_is_dropped_in_watched_exported_and_replayed(page: Page, gateway: Gateway) -> None:
    page.get_by_label("Title").fill("Two friends")
    page.get_by_label("Consent", exact=True).fill("Nobody: the voices are synthetic")
    page.locator("#file").set_input_files(DEMO)
    page.locator("#upload-speed").select_option("max")
    page.locator("#upload").click()
    expect(page.locator("#summary-state")).to_contain_text("ended", timeout=SLOW)
    expect(page.get_by_role("heading", name="Two friends")).to_be_visible()
    expect(page.locator("#session-list a[aria-current]")).to_contain_text("Two friends")
    articles = page.locator("article[id^=utterance-]")
    expect(articles.first).to_be_visible()
    total = articles.count()
    assert total >= 10
    page.get_by_text("Influences as a table").click()
    expect(page.locator("#influence-table")).to_contain_text("speaker 2")
    with page.expect_download() as download:
        page.locator("#export-srt").click()
    assert "-->" in download.value.path().read_text()
    # Scrubbing back shows the session as it stood then.
    scrubber = page.locator("#scrubber")
    scrubber.focus()
    page.keyboard.press("Home")
    expect(articles).to_have_count(0)
    for _ in range(3):
        page.keyboard.press("PageUp")
    page.keyboard.press("End")
    expect(articles).to_have_count(total)
    page.locator("#playback-speed").select_option(index=2)
    page.keyboard.press("Home")
    page.locator("#play").click()
    expect(articles.first).to_be_visible(timeout=20_000)


@pytest.mark.parametrize(("people", "source"), [("2-4", "microphone"), (" 3 ", "recording")])
def test_how_many_people_share_a_microphone(
    page: Page, gateway: Gateway, demo_audio: np.ndarray, tmp_path: Path, people: str, source: str
) -> None:
    page.get_by_label("Consent", exact=True).fill("Nobody: the voices are synthetic")
    page.get_by_label("People on one microphone").fill(people)
    if source == "microphone":
        page.get_by_role("button", name="Start listening").click()
        page.get_by_role("button", name="Stop").click(timeout=SLOW)
    else:
        page.locator("#file").set_input_files(write_wav(tmp_path / "room.wav", demo_audio.sum(0)[None, : 10 * RATE]))
        page.locator("#upload-speed").select_option("max")
        page.locator("#upload").click()
    page.get_by_text("What listens").click(timeout=SLOW)
    expect(page.locator("#encoders-list")).to_contain_text(f"people: {people.strip()}")
    expect(page.locator("#summary-state")).to_contain_text("ended", timeout=SLOW)


@pytest.mark.parametrize("people", ["4-2", "0", "x"])
def test_a_number_of_people_that_is_none_starts_nothing(page: Page, gateway: Gateway, people: str) -> None:
    def sessions() -> list[str]:
        return [one["id"] for one in page.request.get(f"{gateway.http}/sessions").json()["sessions"]]

    before = sessions()
    page.get_by_label("Consent", exact=True).fill("Nobody: the voices are synthetic")
    page.locator("#file").set_input_files(DEMO)
    field = page.get_by_label("People on one microphone")
    field.fill(people)
    for button in ("Start listening", "Upload and analyse"):
        page.get_by_role("button", name=button).click()
        told = f"People on one microphone: a number such as 3, or a range such as 2-4, not “{people}”."
        expect(page.locator("#start-message")).to_have_text(told)
        expect(page.locator("#start-message")).to_be_in_viewport()
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#upload-progress")).to_be_hidden()
    assert sessions() == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_anybody(browser: Browser, gateway: Gateway, redis_url: str, scheme: str) -> None:
    """axe-core finds no violation, on a desk and on a phone; nothing is wider than a phone."""
    session = published(conversation(redis_url, 12))
    for width in (1280, 360):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        for view in ("#new", f"#session={session}"):
            page.goto(f"{gateway.http}/{view}")
            page.reload()
            expect(page.locator("#start-form" if view == "#new" else "article.final >> nth=0")).to_be_visible()
            found = Axe().run(page).response["violations"]
            assert not found, [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


def test_two_hours_stay_usable(page: Page, gateway: Gateway, redis_url: str) -> None:
    """4,000 utterances: all there, and only those in view are laid out."""
    session = published(conversation(redis_url, 4000))
    page.goto(f"{gateway.http}/#session={session}")
    expect(page.locator("#summary-utterances")).to_contain_text("4000", timeout=SLOW)
    page.wait_for_function("document.querySelectorAll('article[id^=utterance-]').length === 4000", timeout=SLOW)
    # Rows that are laid out on the way take their true heights; so once there it may move away, and is sought again.
    page.wait_for_function(
        """() => {
            const node = document.querySelector("#utterance-2000");
            const { top, bottom } = node.getBoundingClientRect();
            if (top >= 0 && bottom <= innerHeight) return true;
            node.scrollIntoView({ block: "center" });
            return false;
        }""",
        polling=500,
        timeout=SLOW,
    )
    assert page.locator("#utterance-0").evaluate("e => e.checkVisibility({contentVisibilityAuto: true})") is False
    page.locator("#zoom-in").click()
    page.locator("#zoom-all").click()


def test_words_are_never_markup(page: Page, gateway: Gateway, redis_url: str) -> None:
    session = published(conversation(redis_url, 3, "<img src=x onerror=alert(1)><b>bold</b>"))
    page.goto(f"{gateway.http}/#session={session}")
    expect(page.locator("#utterance-2")).to_contain_text("<b>bold</b>")
    assert page.locator("article img, article b").count() == 0


def test_what_was_heard_in_a_voice(page: Page, gateway: Gateway, redis_url: str) -> None:
    """In words: a badge beside the label, and a line of the details; nothing of it where the voice is not known."""
    session = published(conversation(redis_url, 3))
    page.goto(f"{gateway.http}/#session={session}")
    laughed, other = page.locator("#utterance-1"), page.locator("#utterance-2")
    expect(laughed.locator(".badge.sound")).to_have_text("laughter")
    for article in (laughed, other):
        article.locator("summary").click()
        expect(article.locator(".why")).to_contain_text("Sentiment")
    heard = "excited (arousal 0.62), sounds angry; laughter at 0:02.4, laughter at 0:02.4"
    expect(laughed.locator(".why")).to_contain_text(f"Heard{heard}")
    expect(other.locator(".badge.sound")).to_have_count(0)
    expect(other.locator(".why")).not_to_contain_text("Heard")


def test_words_that_may_still_change_stand_apart(page: Page, gateway: Gateway, redis_url: str) -> None:
    session = published(talking(redis_url))
    page.goto(f"{gateway.http}/#session={session}")
    words = page.locator("#utterance-0 .words")
    expect(words).to_have_text("So what do you")
    expect(words.locator(".unstable")).to_have_text(" do you")
    assert words.evaluate("node => getComputedStyle(node).fontStyle") == "normal"
    assert words.locator(".unstable").evaluate("node => getComputedStyle(node).fontStyle") == "italic"


def test_a_token_is_asked_for(browser: Browser, tmp_path: Path, redis_url: str, ray_address: str) -> None:
    secret, entry = new_token("desk", ["read"])
    (tmp_path / "tokens.toml").write_text(entry)
    session = published(conversation(redis_url, 3))
    options = ("--redis", redis_url, "--ray-address", ray_address, "--tokens", str(tmp_path / "tokens.toml"))
    with gateways(tmp_path, 1, *options) as (guarded,):
        page = browser.new_page()
        page.goto(f"{guarded.http}/#session={session}")
        page.get_by_label("Access token").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#token-message")).to_contain_text("does not accept")
        page.get_by_label("Access token").fill(secret)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#utterance-2")).to_be_visible(timeout=20_000)  # over a WebSocket with the token
        page.close()


def test_the_printed_address_signs_in(browser: Browser, tmp_path: Path, redis_url: str, ray_address: str) -> None:
    """The token leaves the address bar, and stays for the tab: for another view, and the interface's page."""
    session = published(conversation(redis_url, 3))
    with gateways(tmp_path, 1, "--redis", redis_url, "--ray-address", ray_address, invited=True) as (one,):
        found = re.search(r"http://\S+/#token=\S+", one.log.read_text())
        assert found
        page = browser.new_page()
        page.goto(found[0])
        expect(page.locator("#start-view")).to_be_visible(timeout=20_000)
        assert page.url == f"{one.http}/"
        page.goto(f"{one.http}/#session={session}")
        expect(page.locator("#utterance-2")).to_be_visible(timeout=20_000)
        expect(page.locator("#token-form")).to_be_hidden()
        page.goto(f"{one.http}/docs")
        page.get_by_text("/me", exact=True).click(timeout=20_000)
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table")).to_contain_text("loopback", timeout=20_000)
        page.close()


def test_the_interface_is_described(page: Page, gateway: Gateway) -> None:
    page.goto(f"{gateway.http}/docs")
    expect(page.get_by_text("/sessions/{session}/export/{format}")).to_be_visible(timeout=20_000)


def published(conversation: Coroutine[Any, Any, str]) -> str:
    """Its session id. In a thread of its own, for Playwright occupies this one's event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, conversation).result()


async def talking(url: str) -> str:
    """A session in which somebody is in the middle of an utterance."""
    session = f"talking-{secrets.token_hex(4)}"
    bus = Bus(url, Keys(session))
    await bus.register("2026-01-01T00:00:00+00:00")
    bus.publish(
        events.UtterancePartial(
            id=f"{session}:0:partial:1",
            session=session,
            utterance=0,
            speaker="Mara",
            audio_start=0,
            audio_end=1,
            text="So what do you",
            stable="So what",
        )
    )
    assert await bus.aclose() and bus.dropped_events == 0
    return session


LAUGH = events.Sound(sound="laughter", start=2.4, end=3.1, probability=0.8)
EXCITED = events.Voice(arousal=0.62, expression={"angry": 0.7, "happy": 0.3}, sounds=[LAUGH, LAUGH])


async def conversation(url: str, count: int, text: str = "So what do you make of it?") -> str:
    """A past session of so many utterances, published; the second is laughed."""
    session = f"long-{secrets.token_hex(4)}"
    bus = Bus(url, Keys(session))
    await bus.register("2026-01-01T00:00:00+00:00")
    names = ["neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear"]
    bus.publish(
        events.SessionStarted(
            id=f"{session}:started",
            session=session,
            time="2026-01-01T00:00:00+00:00",
            sources=["made up"],
            channels="per speaker",
            speakers="channel",
            encoders={"asr": "made up", "text": None},
            checkpoint="meld",
            emotions=names,
            consent="made up",
            redacted=False,
        )
    )
    for n in range(count):
        start = 1.8 * n
        common: dict[str, Any] = {"session": session, "utterance": n, "speaker": f"speaker {n % 3}"}
        common |= {"audio_start": start, "audio_end": start + 1.5}
        bus.publish(events.UtteranceHeard(id=f"{session}:{n}:heard", text=text, **common))
        share = dict.fromkeys(names, 0.05) | {names[n % 7]: 0.7}
        latency = dict.fromkeys(("queue", "asr", "encode", "graph", "publish"), 0.01)
        for revision in (0, 1):
            bus.publish(
                events.Emotion(
                    id=f"{session}:{n}:{revision}",
                    revision=revision,
                    final=revision == 1,
                    text=text,
                    trigger="context" if revision else "speech_ended",
                    emotion=names[n % 7],
                    probabilities=share,
                    sentiment="neutral",
                    uncertain=n % 5 == 0,
                    contribution={"text": 0.8, "audio": 0.2},
                    modalities=events.Modalities(used=["text", "audio"], missing=["visual"]),
                    influences={n - 1: 0.6} if n else {},
                    voice=EXCITED if n == 1 else None,
                    **common,
                    latency=None if revision else events.Latency(vad=0.5, **latency),
                )
            )
        if n % 500 == 499:  # more than the outbox holds would be dropped
            await bus.flush()
    bus.publish(
        events.SessionEnded(
            id=f"{session}:ended",
            session=session,
            reason="end of source",
            duration=1.8 * count,
            utterances=count,
            failed=0,
            counts={},
        )
    )
    assert await bus.aclose() and bus.dropped_events == 0
    return session
