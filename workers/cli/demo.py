"""`undertone demo`: a conversation of a minute through the whole live path, in the terminal or on the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.session import Request, run_session, speed_of
from workers.console.errors import INTERRUPTED, one_line_errors
from workers.console.options import AsrModel, Ephemeral, Json, Prefix, RayAddress, Redis
from workers.errors import UsageError, WorkersError
from workers.session.settings import SessionSettings

if TYPE_CHECKING:
    from threading import Event

    from stream.events import SessionEnded
    from workers.console.word_errors import WordScore
    from workers.gateway.state import Settings

FOLDER = Path(__file__).parents[1] / "demo"
CONVERSATION = FOLDER / "conversation.opus"
SCRIPT = CONVERSATION.with_suffix(".stm")
CONSENT = "nobody's: the voices are synthetic"
START_TIMEOUT_S = 240.0  # seconds for the gateway to answer a request for a session
DRAIN_S = 30.0  # seconds that a session has to end after Ctrl-C; its models may still be loading


class DemoError(WorkersError):
    """The gateway does not play the conversation."""


def demo(
    page: Annotated[
        bool, typer.Option("--page", help="Show it on the page: start the gateway and open the browser, until Ctrl-C.")
    ] = False,
    speed: Annotated[
        str | None, typer.Option(help="1 = real time, N times as fast, or max. [default: 2; with --page 1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the page. [default: any that is free]")
    ] = None,
    asr_model: AsrModel = None,
    redis: Redis = None,
    ephemeral: Ephemeral = False,
    prefix: Prefix = "undertone",
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Play a conversation of a minute between two speakers, and label it as it goes on.

    Its words are recognized, and measured against its script at the end. The voices are synthetic.
    """
    with one_line_errors():
        if port is not None and not page:
            raise UsageError("--port: of the page; add --page")
        import asyncio

        from model.encoders.asr import check_name
        from stream.bus.connection import check
        from stream.bus.own_server import redis_address

        check_name(asr_model)
        pace = speed_of(speed or ("1" if page else "2"))
        if not ephemeral:  # before a model is fetched
            asyncio.run(check(redis_address(redis)))
        hears = _hears(asr_model)
        request = Request(redis, ephemeral, prefix, ray_address, as_json, reference=SCRIPT if hears else None)
        if page:
            _on_the_page(request, asr_model, port or 0, pace)
            return
        from stream.sources.file import FileSource

        settings = SessionSettings(consent=CONSENT, asr_model=asr_model, transcript=None if hears else SCRIPT)
        run_session(settings, FileSource(CONVERSATION), pace, request)


def _hears(asr_model: str | None) -> bool:
    """True if a recognizer of speech is here or can be fetched. Raises AsrError and DownloadError if it was named."""
    from model.encoders.asr import AsrError
    from workers.console.display import tell
    from workers.console.progress import console_progress
    from workers.research.downloads import DownloadError, find_or_pull_whisper

    try:
        with console_progress() as progress:
            find_or_pull_whisper(asr_model, progress)
    except (AsrError, DownloadError) as error:
        if asr_model is not None:
            raise
        tell(f"no recognizer of speech, so the words are the script's: {error}")
        return False
    return True


def _on_the_page(request: Request, asr_model: str | None, port: int, speed: float | None) -> None:
    """Serve until Ctrl-C, and play the conversation once the gateway listens."""
    import asyncio
    from threading import Event, Thread

    from stream.bus.connection import check
    from stream.bus.own_server import session_redis
    from workers.cluster.actors import ray_cluster
    from workers.gateway.serve import listen_on, serve
    from workers.gateway.state import Settings

    listeners = listen_on("127.0.0.1", port)
    with session_redis(request.redis, request.ephemeral) as url:
        asyncio.run(check(url))
        settings = Settings(
            redis=url, prefix=request.prefix, media=FOLDER, asr_model=asr_model,
            private_ray=request.ray_address is None, local=True,
        )  # fmt: skip

        over = Event()

        def play(address: str) -> None:
            Thread(target=_play, args=(address, settings, request, speed, over), daemon=True).start()

        with ray_cluster(request.ray_address):
            serve(settings, None, "127.0.0.1", listeners, DRAIN_S, listening=play)
        if not over.is_set():
            raise typer.Exit(INTERRUPTED)  # once it has played, Ctrl-C is how the page ends


def _play(address: str, settings: Settings, request: Request, speed: float | None, over: Event) -> None:
    """Play the conversation on a gateway of this process, and tell how it went. address: with the gateway's token;
    over: set unless it was interrupted.
    """
    import asyncio
    import time

    import requests
    from redis.exceptions import RedisError

    from workers.console.display import summary, tell
    from workers.console.word_errors import WordScore

    score = None if request.reference is None else WordScore(request.reference, CONVERSATION.stem)
    page = address
    try:
        session = _start(address, speed, None if score is not None else SCRIPT.name)
        page = f"{address}&session={session}"
        _open(page)
        started = time.monotonic()
        ended = asyncio.run(_follow(settings, session, request.as_json, score))
        seconds = time.monotonic() - started
        measured = score is not None and ended.reason == "end of source"  # against all of the script
        tell(summary(ended, seconds) + (f"\n{score.line(seconds)}" if score is not None and measured else ""))
        if ended.reason == "interrupted":
            return
    except (DemoError, requests.RequestException, RedisError, OSError) as error:
        tell(f"undertone: the conversation does not play: {error}")
        if page == address:  # which nobody has printed
            tell(f"Open {page}")
    over.set()
    tell("the page stays until Ctrl-C")


def _start(address: str, speed: float | None, transcript: str | None) -> str:
    """Ask the gateway for a session; returns its id. Raises DemoError, RequestException."""
    import requests

    base, _, token = address.partition("/#token=")
    source = {"kind": "file", "name": CONVERSATION.name, "speed": speed, "transcript": transcript}
    with requests.Session() as client:
        client.trust_env = False  # no proxy stands between this process and itself
        answer = client.post(
            f"{base}/sessions", json={"source": source, "consent": CONSENT}, timeout=START_TIMEOUT_S,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
    told: dict[str, Any] = answer.json()
    if answer.status_code != 201:
        raise DemoError(str(told.get("detail", answer.reason)))
    return str(told["id"])


def _open(address: str) -> None:
    """Print the page's address, and open it in a browser where there is one with windows. Raises OSError."""
    import os
    import sys
    import webbrowser
    from urllib.parse import urlsplit

    from workers.console.display import tell
    from workers.gateway.local_token import write_link

    tell(f"Open {address}")
    if sys.platform == "darwin" or any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")):
        webbrowser.open(write_link(urlsplit(address).port or 0, address))


async def _follow(settings: Settings, session: str, as_json: bool, score: WordScore | None) -> SessionEnded:
    """Show a session's events to its end, and return that."""
    from stream.bus.subscriber import subscribe
    from stream.events import SessionEnded
    from workers.console.display import JsonDisplay, LineDisplay

    display = JsonDisplay() if as_json else LineDisplay()
    async for event in subscribe(settings.redis, session, settings.prefix):
        display.event(event)
        if score is not None:
            score.event(event)
        if isinstance(event, SessionEnded):
            return event
    raise DemoError(f"{session}: its events break off")
