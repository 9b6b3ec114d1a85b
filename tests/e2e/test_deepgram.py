"""Deepgram's official library, pointed at a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deepgram import AsyncDeepgramClient, DeepgramClient, DeepgramClientEnvironment
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from websockets import InvalidStatus

from stream.block import RATE
from stream.bus.subscriber import history
from tests.support.gateways import Gateway, gateways, pcm
from tests.support.pages import GUIDE, blocks
from tests.support.recordings import webm, write_wav
from workers.gateway.access import new_token

ASKED: dict[str, Any] = {"model": "nova-3", "encoding": "linear16", "sample_rate": RATE, "language": "en-US"}
CONSENT = "the voices are synthetic"


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, ray_address: str, tiny: str
) -> Iterator[tuple[Gateway, str, str]]:
    """A gateway that recognizes words, a token with a statement of consent, and one without."""
    folder = tmp_path_factory.mktemp("deepgram")
    (desk, with_consent), (other, without) = (new_token(name, ["ingest"]) for name in ("desk", "other"))
    (folder / "tokens.toml").write_text(f'{with_consent}consent = "{CONSENT}"\n{without}')
    options = ("--redis", redis_url, "--ray-address", ray_address, "--asr-model", tiny, "--preload")
    with gateways(folder, 1, *options, "--tokens", str(folder / "tokens.toml")) as (gateway,):
        yield gateway, desk, other


def environment(gateway: Gateway) -> DeepgramClientEnvironment:
    return DeepgramClientEnvironment(
        base=gateway.http, production=gateway.ws, agent=gateway.ws, agent_rest=gateway.http
    )


def pieces(content: bytes, channels: int = 1) -> Iterator[bytes]:
    """A tenth of a second each."""
    size = 2 * channels * RATE // 10
    for first in range(0, len(content), size):
        yield content[first : first + size]


def talk(gateway: Gateway, token: str, content: bytes, **asked: Any) -> list[Any]:
    """What the library hands to a program, of sound that is sent at its pace."""
    messages: list[Any] = []
    client = DeepgramClient(api_key=token, environment=environment(gateway))
    with client.listen.v1.connect(**ASKED | asked) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        connection.on(EventType.ERROR, messages.append)
        listening = threading.Thread(target=connection.start_listening)
        listening.start()
        began = time.monotonic()
        for n, piece in enumerate(pieces(content), 1):
            connection.send_media(piece)
            time.sleep(max(0.0, began + n / 10 - time.monotonic()))
        connection.send_keep_alive()
        connection.send_close_stream()
        listening.join(120)
        assert not listening.is_alive()
    return messages


async def test_a_conversation_of_two_on_one_microphone(
    served: tuple[Gateway, str, str], demo_audio: np.ndarray, redis_url: str
) -> None:
    gateway, desk, _ = served
    asked = {"diarize": True, "interim_results": True, "vad_events": True, "utterance_end_ms": 1000, "punctuate": True}
    before = len(gateway.log.read_text())
    messages = await asyncio.to_thread(talk, gateway, desk, pcm(demo_audio.sum(0)), **asked)
    kinds = [message.type for message in messages]
    assert set(kinds) == {"SpeechStarted", "Results", "UtteranceEnd", "Metadata"} and kinds[-1] == "Metadata"
    results = [message for message in messages if message.type == "Results"]
    interim, final = ([each for each in results if each.is_final is is_final] for is_final in (False, True))
    assert len(interim) > 10 and 10 <= len(final) <= 20 and kinds.count("UtteranceEnd") == len(final)
    assert interim[0].channel.alternatives[0].words[0].start >= interim[0].start
    said = " ".join(each.channel.alternatives[0].transcript for each in final).lower()
    for words in ("wonderful news", "outrageous", "i feel terrible", "shall we have lunch"):
        assert words in said
    assert all(each.speech_final and each.channel_index == [0, 1] for each in final)
    speakers = {word.speaker for each in final for word in each.channel.alternatives[0].words}
    assert {0, 1} <= speakers
    news = next(each for each in final if "wonderful news" in each.channel.alternatives[0].transcript.lower())
    assert news.start == pytest.approx(8.9, abs=1)  # on the session's clock: what a busy machine delays comes later
    words = news.channel.alternatives[0].words
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert words[0].start == pytest.approx(8.9, abs=1.3) and words[0].confidence > 0.3
    assert news.channel.alternatives[0].sentiment == "positive" and words[0].sentiment_score > 0
    bad = next(each for each in final if "outrageous" in each.channel.alternatives[0].transcript.lower())
    assert bad.channel.alternatives[0].sentiment == "negative" and bad.channel.alternatives[0].sentiment_score < 0
    assert bad.undertone["emotion"] in bad.undertone["probabilities"] and bad.undertone["revision"] == 0
    last = messages[-1]
    assert last.duration == pytest.approx(demo_audio.shape[1] / RATE, abs=0.001) and last.channels == 1
    assert last.undertone["ignored"] == ["model", "punctuate"] and last.undertone["failed"] == 0
    events = await history(redis_url, last.undertone["session"])
    assert events[0].type == "session.started" and events[0].consent == CONSENT
    assert events[-1].type == "session.ended" and events[-1].reason == "end of source"
    lines = [json.loads(line) for line in gateway.log.read_text()[before:].splitlines()]
    (line,) = [line for line in lines if line["event"] == "websocket"]
    assert (line["route"], line["token"], line["code"]) == ("/v1/listen", "desk", 1000)


async def test_a_channel_for_each_participant(served: tuple[Gateway, str, str], demo_audio: np.ndarray) -> None:
    """With the library's other client, and consent in the address."""
    gateway, _, other = served
    content = pcm(demo_audio[:, : round(12.4 * RATE)].T.ravel())
    messages: list[Any] = []
    client = AsyncDeepgramClient(api_key=other, environment=environment(gateway))
    stated = {"additional_query_parameters": {"consent": "both agreed", "undertone": "true"}}
    async with client.listen.v1.connect(**ASKED, channels=2, multichannel=True, request_options=stated) as connection:
        connection.on(EventType.MESSAGE, messages.append)
        listening = asyncio.create_task(connection.start_listening())
        for piece in pieces(content, 2):
            await connection.send_media(piece)
            await asyncio.sleep(0.1)
        await connection.send_close_stream()
        await asyncio.wait_for(listening, 120)
    known = [message for message in messages if message is not None]
    assert len(known) < len(messages), "revisions are of a type that it does not know"
    assert [message.channel_index for message in known[:-1]] == [[0, 2], [1, 2], [0, 2]]
    assert "wonderful news" in known[2].channel.alternatives[0].transcript
    assert known[2].undertone["speaker"] == "channel 1"
    assert known[-1].type == "Metadata" and known[-1].channels == 2


def test_webm_as_a_browser_records_it(served: tuple[Gateway, str, str], demo_audio: np.ndarray) -> None:
    gateway, desk, _ = served
    content = webm(demo_audio.sum(0)[: round(8.4 * RATE)])
    messages = talk(gateway, desk, content, encoding=None, sample_rate=None)
    *results, last = messages
    assert {message.type for message in results} == {"Results"} and last.type == "Metadata"
    assert "no problem" in results[-1].channel.alternatives[0].transcript
    assert last.duration == pytest.approx(8.4, abs=0.5)


async def test_who_may_not_is_told(served: tuple[Gateway, str, str]) -> None:
    gateway, desk, other = served
    for token, asked, status in ((f"{desk}x", {}, 401), (other, {}, 400), (desk, {"encoding": "opus"}, 400)):
        with pytest.raises(InvalidStatus) as rejection:  # the library expects that of older websockets
            await asyncio.to_thread(talk, gateway, token, b"", **asked)
        assert rejection.value.response.status_code == status
        with pytest.raises(ApiError) as refusal:
            client = AsyncDeepgramClient(api_key=token, environment=environment(gateway))
            async with client.listen.v1.connect(**ASKED | asked):
                pass
        assert refusal.value.status_code == status


def test_the_example_of_the_guide(
    served: tuple[Gateway, str, str], demo_audio: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _, other = served
    write_wav(tmp_path / "call.wav", demo_audio.sum(0, keepdims=True)[:, : round(8.4 * RATE)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERTONE_TOKEN", other)
    (example,) = [block.text for block in blocks(GUIDE / "deepgram.md") if block.language == "python"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example.replace("127.0.0.1:8765", f"127.0.0.1:{gateway.port}"), {})  # noqa: S102
    lines = printed.getvalue().splitlines()
    assert len(lines) >= 2 and all(re.fullmatch(r"\d+\.\d+ .+ (positive|neutral|negative) \w+", line) for line in lines)
