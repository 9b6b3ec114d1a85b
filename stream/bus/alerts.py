"""Publishing alerts: each once, on a Redis Stream and channel of its own, and to a webhook."""

from __future__ import annotations

import secrets
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, WatchError

from stream.bus.connection import connect
from stream.bus.keys import PREFIX, RETENTION_S, alert_marker, alerts_stream
from stream.bus.webhook import Webhook
from stream.clock import Clock, MonotonicClock
from stream.events import Alert

MAX_ALERTS = 10_000  # alerts in the Stream, approximately


class AlertPublisher:
    """Publishes alerts on the Stream and the channel `PREFIX:alerts`.

    Each alert is published once within a day, however many processes try. While Redis is unreachable, retries with
    back-off (1 … 60 s). Delivery to a webhook is claimed separately, so a process without a webhook takes none away.
    """

    def __init__(
        self, url: str, prefix: str = PREFIX, webhook: Webhook | None = None, clock: Clock = MonotonicClock()
    ) -> None:
        self._client, self._clock = connect(url), clock
        self._prefix = prefix
        self._webhook = webhook
        self._name = secrets.token_hex(8)  # recognizes an earlier attempt of ours whose answer was lost

    async def publish(self, alert: Alert) -> bool:
        """Publish an alert and queue it for the webhook; False when another process has published it.

        Raises AuthenticationError or NoPermissionError, which a retry cannot solve.
        """
        pause = 1.0
        while True:
            try:
                published = await self._publish(alert)
                if self._webhook and await self._claim(
                    f"{alert_marker(self._prefix, alert.id)}:{self._webhook.digest}"
                ):
                    self._webhook.post(alert)
                return published
            except (AuthenticationError, NoPermissionError):
                raise
            except (RedisError, OSError):
                await self._clock.sleep(pause)
                pause = min(60.0, 2 * pause)

    async def _publish(self, alert: Alert) -> bool:
        """Write marker, Stream and channel in one transaction, so that a crash leaves nothing half published."""
        mark, payload, name = alert_marker(self._prefix, alert.id), alert.wire(), alerts_stream(self._prefix)
        fields: Any = {"id": alert.id, "type": alert.type, "event": payload}
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(mark)
            if (winner := await pipe.get(mark)) is not None:
                return bool(winner == self._name)
            # Every alert expires after a day, even if newer ones follow; XADD can bound either the age or the number.
            oldest: Any = await pipe.xrange(name, count=1)
            yesterday = round(1000 * (self._clock.date() - RETENTION_S))
            pipe.multi()
            pipe.set(mark, self._name, ex=RETENTION_S)
            if oldest and int(oldest[0][0].partition("-")[0]) < yesterday:
                pipe.xadd(name, fields, minid=yesterday, approximate=False)
            else:
                pipe.xadd(name, fields, maxlen=MAX_ALERTS, approximate=True)
            pipe.expire(name, RETENTION_S)
            pipe.publish(name, payload)
            try:
                await pipe.execute()
            except WatchError:
                return False
            return True

    async def _claim(self, key: str) -> bool:
        """Claim a webhook's delivery; True if it is ours, also from an earlier attempt."""
        claimed = await self._client.set(key, self._name, nx=True, ex=RETENTION_S)
        return bool(claimed or await self._client.get(key) == self._name)

    async def aclose(self) -> None:
        """Close the connection to Redis."""
        await self._client.aclose()
