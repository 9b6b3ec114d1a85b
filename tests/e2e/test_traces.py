"""OpenTelemetry: an utterance is one trace across the actors, received by a collector over OTLP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.support.gateways import events_of, gateways
from tests.support.paths import DEMO
from tests.support.tracing import collector


async def test_an_utterance_is_one_trace_across_the_actors(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (address, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with gateways(tmp_path, 1, "--redis", redis_url, "--trace") as (gateway,):
            heard = {"consent": "synthetic voices", "modalities": ["audio"], "interim": 0, "speed": "max"}
            async with httpx.AsyncClient(base_url=gateway.http, timeout=120) as client:
                started = await client.post("/recordings", params=heard, content=DEMO.read_bytes())
            assert started.status_code == 201, started.text
            session = started.json()["id"]
            await events_of(gateway, session)
            for _ in range(50):
                await asyncio.sleep(0.2)
                utterances = [span for span in spans if span.name == "utterance"]
                if len(utterances) >= 14:
                    break
    assert len(utterances) == 14
    for utterance in utterances:
        names = {span.name for span in spans if span.trace_id == utterance.trace_id}
        for call in ("EncoderActor.encode_audio", "RecognizerActor.label"):
            assert f"{call} ray.remote" in names and f"{call} ray.remote_worker" in names, names
    told = {attribute.key for span in utterances for attribute in span.attributes}
    assert told == {"undertone.session", "undertone.utterance"}
    assert not any("synthetic" in str(span) for span in spans), "a query string left"
