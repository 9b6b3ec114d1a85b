"""OpenTelemetry, for those who asked for it: an utterance's way through the actors.

Ray makes a span of every call between actors and carries the context along; here are the exporter, which Ray starts in
every process, and the span of an utterance that the calls belong to.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

_tracer: Any = None


def export_spans() -> None:
    """Ray's start-up hook: send this process's spans to $OTEL_EXPORTER_OTLP_ENDPOINT."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _tracer
    provider = TracerProvider(resource=Resource.create({"service.name": "undertone"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _tracer = trace.get_tracer("undertone")


class UtteranceTrace:
    """One utterance's span. The tasks that work on it enter it; nothing happens where traces are off."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    @classmethod
    def begin(cls, session: str, number: int) -> UtteranceTrace:
        """Neither words nor speaker: traces are not where people's conversations belong."""
        if _tracer is None:
            return cls()
        attributes = {"undertone.session": session, "undertone.utterance": number}
        return cls(_tracer.start_span("utterance", attributes=attributes))

    def entered(self) -> AbstractContextManager[Any]:
        """Calls made inside belong to the utterance."""
        if self._span is None:
            return nullcontext()
        from opentelemetry.trace import use_span

        return use_span(self._span, record_exception=False)

    def end(self) -> None:
        """It has its label, or has failed."""
        if self._span is not None:
            self._span.end()
