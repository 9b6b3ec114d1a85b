"""OpenTelemetry: an utterance is one trace across the actors, received by a collector over OTLP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conftest import DEMO
from tests.e2e.test_gateway import events_of
from tests.support.gateways import gateways


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """The address of an OTLP receiver, and the spans that it got."""
    spans: list[Span] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        server.server_close()


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
