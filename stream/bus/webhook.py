"""Delivery of alerts to an HTTP address: signed, in order, with retries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from stream.bus.alert_rules import RuleError
from stream.bus.tasks import cancelled
from stream.clock import Clock, MonotonicClock
from stream.events import Alert

MAX_QUEUED = 1_000  # alerts queued for a slow webhook; beyond that the oldest are dropped and counted
RETRY_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)  # seconds between the attempts to reach a webhook
MAX_RETRY_AFTER_S = 600.0  # longest Retry-After of a webhook that is honoured, in seconds
WEBHOOK_TIMEOUT_S = 10.0  # seconds a webhook may take to answer


class Webhook:
    """POSTs alerts to an address, in order, from a bounded queue, so that a slow receiver delays nothing else.

    `X-Undertone-Signature` is sha256=HMAC-SHA256(secret, `X-Undertone-Timestamp` + "." + body). `X-Undertone-Id` is
    the same in every attempt, so that receivers can drop duplicates. Connection errors, 429 and 5xx are retried, up to
    eight attempts in all; any other answer is final. Messages name the host only, because such an address often
    contains a secret.
    """

    def __init__(self, url: str, secret: str, report: Callable[[str], None], clock: Clock = MonotonicClock()) -> None:
        """Prepare delivery; the first `post` starts it.

        secret: key of the signature; report: receives one line for every alert that is not delivered. Raises RuleError
        for an invalid address.
        """
        try:
            parts = urlsplit(url)
            self._host = parts.hostname or ""
        except ValueError:
            self._host = ""
        if not self._host or parts.scheme not in ("http", "https"):
            raise RuleError("webhook: an address such as https://host/path is needed")
        self.digest = hashlib.sha256(url.encode()).hexdigest()[:12]
        """Identifies the webhook without revealing its address."""
        self.dropped = 0
        """Alerts dropped because the queue was full."""
        self._url, self._clock = url, clock
        self._secret = secret.encode()
        self._report = report
        self._queue: asyncio.Queue[Alert] = asyncio.Queue(MAX_QUEUED)
        self._worker: asyncio.Task[None] | None = None

    def post(self, alert: Alert) -> None:
        """Queue an alert; when the queue is full, the oldest is dropped. Needs a running event loop."""
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        if self._queue.full():
            oldest = self._queue.get_nowait()
            self._queue.task_done()
            self.dropped += 1
            self._report(f"webhook {self._host} is too slow: {oldest.id} dropped, {self.dropped} so far")
        self._queue.put_nowait(alert)

    async def _work(self) -> None:
        while True:
            alert = await self._queue.get()
            if failure := await self._deliver(alert):
                self._report(f"webhook {self._host}: {alert.id} not delivered: {failure}")
            self._queue.task_done()

    async def _deliver(self, alert: Alert) -> str:
        """Try until the receiver accepts the alert; returns the last failure, or ""."""
        failure = ""
        for pause in (*RETRY_PAUSES_S, None):
            retry_after = 0.0
            try:
                answer = await asyncio.to_thread(self._send, alert)
            except (requests.ConnectionError, requests.Timeout) as error:
                failure = type(error).__name__
            except requests.RequestException as error:
                return type(error).__name__
            else:
                if 200 <= answer.status_code < 300:
                    return ""
                failure = f"HTTP {answer.status_code}"
                if answer.status_code != 429 and answer.status_code < 500:
                    return failure
                retry_after = _retry_after(answer.headers.get("Retry-After", ""), self._clock.date())
            if pause is not None:
                await self._clock.sleep(max(pause, retry_after))
        return f"{failure}, tried {len(RETRY_PAUSES_S) + 1} times"

    def _send(self, alert: Alert) -> requests.Response:
        body, timestamp = alert.wire().encode(), str(int(self._clock.date()))
        signature = hmac.new(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Undertone-Id": alert.id,
            "X-Undertone-Signature": f"sha256={signature}",
            "X-Undertone-Timestamp": timestamp,
        }
        # Streamed and closed: the body of the answer is never read.
        with requests.post(
            self._url, data=body, headers=headers, timeout=WEBHOOK_TIMEOUT_S, allow_redirects=False, stream=True
        ) as answer:
            return answer

    async def aclose(self, timeout: float = 10.0) -> None:
        """Wait until everything is delivered; after `timeout` seconds, report the rest as undelivered and stop."""
        try:
            await asyncio.wait_for(self._queue.join(), timeout)
        except TimeoutError:
            self._report(f"webhook {self._host}: {self._queue.qsize() + 1} alerts not delivered")
        if self._worker is not None:
            await cancelled(self._worker)


def _retry_after(header: str, date: float) -> float:
    """Seconds to wait according to a Retry-After header, a number or an HTTP date; 0 for anything else.

    date: now, in seconds since 1970.
    """
    try:
        seconds = float(header) if header.strip().isdigit() else parsedate_to_datetime(header).timestamp() - date
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(MAX_RETRY_AFTER_S, max(0.0, seconds))
