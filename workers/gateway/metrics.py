"""Metrics for Prometheus, counted from the sessions' events, so that they include sessions started anywhere.

A consumer group distributes the events among the gateways: each event is counted once, so sums over gateways are
correct. Gauges are read from Redis at each scrape and are the same at every gateway.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from stream import __version__
from stream.bus.directory import unfinished
from stream.bus.subscriber import consume_all
from stream.clock import Clock, MonotonicClock
from stream.events import Degraded, Emotion, Event, EventsMissed, SessionEnded, UtteranceFailed

disable_created_metrics()  # type: ignore[no-untyped-call]
GROUP = "undertone-metrics"
RETRY_S = 10.0  # pause before events are read again after an error
log = structlog.get_logger("undertone.metrics")
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one gateway."""

    def __init__(self, clock: Clock = MonotonicClock()) -> None:
        self._clock = clock
        self._ended: dict[str, str] = {}  # sessions that need not be asked for at the next scrape
        self.registry = registry = CollectorRegistry()
        self._stage = Histogram(
            "undertone_stage_seconds", "Seconds of a label by stage", ["stage"], buckets=BUCKETS_S, registry=registry
        )
        self._label = Histogram(
            "undertone_label_seconds", "Seconds from the endpoint to the label", buckets=BUCKETS_S, registry=registry
        )
        self._events = Counter("undertone_events", "Events published", ["type"], registry=registry)
        self._skipped = Counter(
            "undertone_events_skipped", "Events not counted: invalid, or removed unread", ["reason"], registry=registry
        )
        for reason in ("invalid", "removed"):
            self._skipped.labels(reason)
        self._failed = Counter("undertone_utterances_failed", "Utterances without a label", registry=registry)
        self._degraded = Counter("undertone_degraded", "Times something was given up", registry=registry)
        self._lost = Counter("undertone_lost_audio_seconds", "Audio lost before it was heard", registry=registry)
        self._sessions = Gauge("undertone_sessions", "Sessions of the directory", ["state"], registry=registry)
        self._in_flight = Gauge("undertone_in_flight_utterances", "Utterances being understood", registry=registry)
        self._lag = Gauge("undertone_lag_seconds", "Of the live session furthest behind its source", registry=registry)
        self._overload_steps = Gauge(
            "undertone_overload_steps", "Taken by the most overloaded live session", registry=registry
        )
        self._factor = Gauge(
            "undertone_real_time_factor", "Media seconds a second of the slowest live session", registry=registry
        )
        self._model = Gauge("undertone_model_info", "Checkpoints in use", ["checkpoint"], registry=registry)
        self.requests = Counter(
            "undertone_http_requests", "HTTP requests", ["method", "route", "status"], registry=registry
        )
        self.sockets = Gauge("undertone_websockets", "Open WebSockets", ["direction"], registry=registry)
        self.refused = Counter("undertone_refused", "Requests refused", ["reason"], registry=registry)
        Info("undertone_build", "This software", registry=registry).info({"version": __version__})
        for direction in ("in", "out"):
            self.sockets.labels(direction).set(0)

    def count(self, event: Event) -> None:
        """Update the counters with an event."""
        if isinstance(event, EventsMissed):  # not published
            self._skipped.labels("removed").inc(event.count or 0)
            return
        self._events.labels(event.type).inc()
        match event:
            case Emotion(latency=latency) if latency is not None:
                stages = latency.model_dump()
                for stage, seconds in stages.items():
                    self._stage.labels(stage).observe(seconds)
                self._label.observe(sum(stages.values()) - latency.vad)
            case UtteranceFailed():
                self._failed.inc()
            case Degraded():
                self._degraded.inc()
            case SessionEnded(counts=counts):
                self._lost.inc(counts.get("lost_audio_ms", 0) / 1000)

    def _skip(self) -> None:
        self._skipped.labels("invalid").inc()

    async def follow(self, redis: str, prefix: str, gateway: str) -> None:
        """Count this gateway's share of all events, until cancelled."""
        while True:
            try:
                async with aclosing(consume_all(redis, GROUP, gateway, prefix, skipped=self._skip)) as events:
                    async for event in events:
                        self.count(event)
                        await asyncio.sleep(0)  # a long history must not delay requests
            except Exception as error:  # metrics must not stop the service
                log.warning("events are not counted", error=type(error).__name__)
                await self._clock.sleep(RETRY_S)

    async def scrape(self, redis: str, prefix: str) -> bytes:
        """The metrics in the text format of Prometheus. Raises RedisError."""
        sessions = await unfinished(redis, prefix, self._ended)
        for state in ("live", "lost"):
            self._sessions.labels(state).set(sum(info.state == state for info in sessions))
        self._sessions.labels("ended").set(len(self._ended))
        loads = [info.load for info in sessions if info.load is not None]
        self._in_flight.set(sum(load.in_flight for load in loads))
        self._lag.set(max((load.lag for load in loads), default=0.0))
        self._overload_steps.set(max((load.given_up for load in loads), default=0))
        self._factor.set(min((load.position / load.seconds for load in loads if load.seconds > 5), default=1.0))
        self._model.clear()
        for checkpoint in {info.checkpoint for info in sessions if info.load is not None}:
            self._model.labels((checkpoint or "unknown").partition("@")[0]).set(1)
        return generate_latest(self.registry)
