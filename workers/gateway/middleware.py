"""What happens to every HTTP request: a bound to its body, security headers, CORS, a count and a log line."""

from __future__ import annotations

from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.clock import Clock, MonotonicClock
from workers.gateway.metrics import Metrics

LOCAL = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; media-src 'self' blob:; "
    "style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
BODY = 1 << 16  # bytes of a request's body, which is read before its token is looked at
UPLOADS = "/recordings"  # bounded by its route, after the token
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
log = structlog.get_logger("undertone.http")


class RequestGuard:
    """Lets in requests of our own page and of allowed ones, and keeps the book."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        origins: frozenset[str],
        private: bool,
        clock: Clock = MonotonicClock(),
    ) -> None:
        """origins: of other pages that may talk to us; private: only names of this machine are answered to, so that a
        web page elsewhere cannot reach a gateway without tokens by giving its own name our address (DNS rebinding)."""
        self._app, self._metrics, self._origins, self._private = app, metrics, origins, private
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        welcome = self._welcome(headers.get("host", ""), origin)
        if not welcome:
            self._metrics.refused.labels("origin").inc()
        if scope["type"] == "websocket":
            if welcome:
                await self._app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": "not from this page"})
            return
        started, status, size = self._clock.now(), 500, 0
        foreign = origin if origin in self._origins else None

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > BODY and scope["path"] != UPLOADS:
                raise HTTPException(413, f"a request may have {BODY >> 10} KB at most")
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(MutableHeaders(scope=message), scope["path"], foreign)
            await send(message)

        try:
            if not welcome:
                refused = JSONResponse({"detail": "not from this page, or not to this host"}, 403)
                await refused(scope, receive, answer)
            elif headers.get("content-encoding", "identity") != "identity":
                detail = "send the body as it is, without a Content-Encoding"
                await JSONResponse({"detail": detail}, 415)(scope, receive, answer)
            elif scope["method"] == "OPTIONS" and foreign is not None:
                await PlainTextResponse("", 204)(scope, receive, answer)
            else:
                await self._app(scope, bounded, answer)
        finally:
            self._note(scope, status, self._clock.now() - started)

    def _welcome(self, host: str, origin: str | None) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            from_us = origin is None or urlsplit(origin).netloc == host
        except ValueError:  # "[", say
            return False
        return (name in LOCAL or not self._private) and (from_us or origin in self._origins)

    def _dress(self, headers: MutableHeaders, path: str, foreign: str | None) -> None:
        for name, value in SECURITY.items():
            headers[name] = value
        if not path.startswith("/static"):
            headers["Cache-Control"] = "no-store"
        if foreign is not None:
            headers["Access-Control-Allow-Origin"] = foreign
            headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
            headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Last-Event-ID"
            headers["Vary"] = "Origin"

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # The route, not the path: ids stay out of metrics. Query strings, which may hold a consent, out of both.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"  # else anybody could make labels
        self._metrics.requests.labels(method, route, status).inc()
        token = scope.get("state", {}).get("token")
        log.info("request", method=method, route=route, status=status, ms=round(1000 * seconds), token=token)
