"""Middleware for every request, from the outside in: record, admission by host and page, CORS, HEAD, body."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import structlog
from anyio import BrokenResourceError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.clock import Clock
from workers.gateway.metrics import Metrics

LOCAL = ("localhost", "127.0.0.1", "::1")
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; media-src 'self' blob:; "
    "style-src 'self'; script-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
MAX_BODY_BYTES = 1 << 16  # of a request's body, which is read before its token is checked
BODY_GRACE_S = 30.0  # seconds that a body may take, however short it is
MIN_BODY_BYTES_PER_S = 8_000  # mean rate of a body that takes longer: half a slow mobile uplink
UPLOAD_PATH = "/recordings"  # its route limits the body, after the token is checked
IS_HEAD = "undertone.head"  # mark of a scope whose answer's body nobody sees
RECORDED_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
log = structlog.get_logger("undertone.http")


def middleware(metrics: Metrics, origins: frozenset[str], private: bool, clock: Clock) -> list[Middleware]:
    """The middleware of the gateway, the outermost first.

    origins: other web pages that may use the gateway; private: see `RequestGuard`.
    """
    cors = Middleware(
        CORSMiddleware,
        allow_origins=sorted(origins),
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
    )
    return [
        Middleware(RequestRecorder, metrics=metrics, clock=clock),
        Middleware(RequestGuard, metrics=metrics, origins=origins, private=private),
        *([cors] if origins else []),
        Middleware(HeadAsGet),
        Middleware(BodyLimit),
    ]


class RequestRecorder:
    """Adds security headers to every HTTP response, counts it, and logs one line for it and for every WebSocket."""

    def __init__(self, app: ASGIApp, metrics: Metrics, clock: Clock) -> None:
        self._app, self._metrics, self._clock = app, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a WebSocket; anything else is passed on unchanged.

        Only the server's end cancels one; that is no error, of which the server would log a stack.
        """
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        serve = self._serve_http if scope["type"] == "http" else self._serve_websocket
        try:
            with suppress(asyncio.CancelledError):
                await serve(scope, receive, send)
        except* BrokenResourceError:
            # FastAPI's stream of events, where the reader's half was cancelled while the writer's was sending.
            pass

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = self._clock.now(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                if not scope["path"].startswith("/static"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, self._clock.now() - started)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, code = self._clock.now(), None

        def noted(message: Message) -> Message:
            nonlocal code
            if message["type"] in ("websocket.close", "websocket.disconnect"):
                code = message.get("code", 1000) if code is None else code
            elif message["type"] == "websocket.http.response.start":  # a refusal instead of a WebSocket
                code = message["status"]
            return message

        async def receive_noted() -> Message:
            return noted(await receive())

        async def send_noted(message: Message) -> None:
            await send(noted(message))

        try:
            await self._app(scope, receive_noted, send_noted)
        finally:
            seconds = self._clock.now() - started
            log.info("websocket", route=_route(scope), code=code, s=round(seconds, 1), token=_token(scope))

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The route, not the path, so that metrics contain no ids. Neither contains query strings, which may hold a
        # statement of consent.
        route = _route(scope)
        # Any other method would let clients create any number of labels.
        method = scope["method"] if scope["method"] in RECORDED_METHODS else "other"
        self._metrics.requests.labels(method, route, status).inc()
        log.info("request", method=method, route=route, status=status, ms=round(1000 * seconds), token=_token(scope))


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "other")


def _token(scope: Scope) -> str | None:
    """Name of the token, once it is admitted."""
    name: str | None = scope.get("state", {}).get("token")
    return name


class RequestGuard:
    """Admits requests and WebSockets of our own page, of allowed other pages, and of programs that send no Origin.

    Starlette's CORS middleware checks no WebSockets, and leaves it to the browser to discard the response of a page
    that is not allowed. Its TrustedHost middleware answers in plain text; here every refusal is JSON, and counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, origins: frozenset[str], private: bool) -> None:
        """origins: other pages that are allowed; private: require a Host header that names this machine, so that a web
        page cannot reach a gateway without tokens by resolving its own name to our address (DNS rebinding)."""
        self._app, self._metrics, self._origins, self._private = app, metrics, origins, private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an admitted request on; refuse any other with 403, a WebSocket with code 1008."""
        if scope["type"] not in ("http", "websocket") or self._admits(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        self._metrics.refused.labels("origin").inc()
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "not allowed from this page"})
        else:
            refusal = JSONResponse({"detail": "not allowed from this page, or under this host name"}, 403)
            await refusal(scope, receive, send)

    def _admits(self, headers: Headers) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            is_own_page = origin is None or urlsplit(origin).netloc == host
        except ValueError:  # a malformed header, such as "["
            return False
        return (name in LOCAL or not self._private) and (is_own_page or origin in self._origins)


class HeadAsGet:
    """Answers HEAD wherever GET is answered, which FastAPI's routes do not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request. Of the answer to GET only the beginning is sent; an event stream ends there."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked: Scope = {**scope, "method": "GET", IS_HEAD: True}
        answered, requests = asyncio.Event(), iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive_request() -> Message:
            request = next(requests, None)
            if request is None:
                await answered.wait()
            return request or {"type": "http.disconnect"}

        async def send_beginning(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                answered.set()

        try:
            await self._app(asked, receive_request, send_beginning)
        finally:
            scope["route"] = asked.get("route")  # for the log


class BodyLimit:
    """Refuses compressed request bodies, those over `MAX_BODY_BYTES` except recordings, and those that trickle in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request. Reading a body that is too long or too slow raises HTTPException (413, 408)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if Headers(scope=scope).get("content-encoding", "identity") != "identity":
            refusal = JSONResponse({"detail": "send the body without a Content-Encoding"}, 415)
            await refusal(scope, receive, send)
            return
        size, started, is_complete = 0, None, False

        async def receive_limited() -> Message:
            nonlocal size, started, is_complete
            if is_complete:  # what comes after is the client's leaving
                return await receive()
            started = started or asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout_at(started + BODY_GRACE_S + size / MIN_BODY_BYTES_PER_S):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the request's body comes too slowly", {"Connection": "close"}) from None
            is_complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES and scope["path"] != UPLOAD_PATH:
                raise HTTPException(413, f"a request may have {MAX_BODY_BYTES >> 10} KB at most")
            return message

        await self._app(scope, receive_limited, send)
