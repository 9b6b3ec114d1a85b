"""The commands that run a session: replay and live. Heavy imports happen inside them, so that --help is instant."""

from __future__ import annotations

import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from workers.cli.session_options import given_options, session_options
from workers.console.errors import INTERRUPTED, RUNTIME, USAGE, fail, one_line_errors
from workers.console.options import Ephemeral, Json, Keep, Prefix, RayAddress, Redis
from workers.console.terminal import Terminal
from workers.errors import UsageError
from workers.session.settings import INTERIM_S, SessionSettings, settings_from_recording

if TYPE_CHECKING:
    from stream.sources.base import Source
    from stream.sources.recording import RecordedSource
    from workers.console.progress import Waiting
    from workers.console.word_errors import WordScore
    from workers.session.opening import OpenSession
    from workers.session.runner import EventObserver, Outcome
    from workers.session.services import InferenceBackend, ModelRequirements, SessionPlan

WAITING_S = 0.3  # between two looks at what is loaded
Reference = Annotated[
    Path | None,
    typer.Option(help="Script (STM, VTT, SRT, TXT or CSV) to measure the recognized words against, at the end."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the session that --session names, whose process was killed.")
]
Record = Annotated[Path | None, typer.Option(help="Keep sound, pictures and events, in a new folder of this one.")]


@dataclass(frozen=True)
class Request:
    """The options of a command besides the session's settings."""

    redis: str | None
    ephemeral: bool
    prefix: str
    ray_address: str | None
    as_json: bool
    record: Path | None = None
    resume: bool = False
    reference: Path | None = None


Track = Annotated[
    str | None,
    typer.Option(
        metavar="N|all",
        help="Number of the audio track, or all: a speaker each. [default: the file's default, or the loudest if "
        "silent]",
    ),
]


@session_options()
def replay(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Any audio or video file; a folder that --record made; or events to publish again: a .jsonl file, or "
            "redis:SESSION.",
        ),
    ],
    settings: SessionSettings,
    speed: Annotated[str, typer.Option(help="1 = real time, N times as fast, or max.")] = "1",
    channels: Annotated[
        Literal["auto", "mix", "split"],
        typer.Option(
            help="split: a speaker on each channel; mix: all in one; auto: split where speakers are on channels alone."
        ),
    ] = "auto",
    track: Track = None,
    record: Record = None,
    keep: Keep = 24.0,
    resume: Resume = False,
    reference: Reference = None,
    redis: Redis = None,
    ephemeral: Ephemeral = False,
    prefix: Prefix = "undertone",
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Label a recording, as if it were live."""
    with one_line_errors():
        from stream.sources.file import open_recording
        from stream.sources.recording import RecordedSource
        from stream.sources.spec import URL

        pace = speed_of(speed)
        request = Request(redis, ephemeral, prefix, ray_address, as_json, record, resume, reference)
        events = (file.startswith("redis:") and not Path(file).exists()) or file.endswith(".jsonl")
        if track is not None and (events or Path(file).is_dir()):
            raise UsageError("--track: of an audio or video file; what a session left has one")
        if events:
            if reference is not None:
                raise UsageError("--reference: past events are published again, nothing is recognized")
            _republish(file, pace, settings.session, request)
            return
        if URL.fullmatch(file) and not Path(file).exists():
            raise UsageError("replay plays files, and this is an address: undertone live URL listens to it")
        source: Source
        if Path(file).is_dir():
            source = recorded = RecordedSource(Path(file))
            settings = _as_recorded(settings, recorded, context)
        else:
            source = recording = open_recording(Path(file), channels, track=_track(track))
            settings = settings.model_copy(update={"names": recording.names | settings.names})
        run_session(settings.model_copy(update={"kept": round(3600 * keep)}), source, pace, request)


@session_options(without=("transcript", "rttm", "speakers"), interim=INTERIM_S)
def live(
    settings: SessionSettings,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="One [NAME=]SOUND[+CAMERA] for each participant. SOUND: mic, mic:DEVICE, monitor (what this machine "
            "plays), monitor:NAME, or a URL (rtsp, rtmp, http, also HLS, udp, tcp). CAMERA: +camera or "
            "+camera:/dev/video2. "
            "[default: mic]"
        ),
    ] = None,
    channels: Annotated[
        int, typer.Option(min=1, max=16, help="Channels of the microphone; with more than one, each is a speaker.")
    ] = 1,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds after which to stop. [default: at Ctrl-C]")
    ] = None,
    reconnect: Annotated[float, typer.Option(min=0, help="Seconds after which a lost source is given up.")] = 300.0,
    record: Record = None,
    keep: Keep = 24.0,
    resume: Resume = False,
    reference: Reference = None,
    redis: Redis = None,
    ephemeral: Ephemeral = False,
    prefix: Prefix = "undertone",
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Label what is said now: listen to microphones, meetings, cameras and streams until Ctrl-C.

    Anna=mic Ben=monitor: you and the meeting. mic+camera: voice and face. rtsp://camera.local/door: a stream.
    """
    with one_line_errors():
        from stream.sources.spec import listen

        source, names = listen(sources or [], channels, seconds, reconnect)
        settings = settings.model_copy(update={"names": names | settings.names, "kept": round(3600 * keep)})
        request = Request(redis, ephemeral, prefix, ray_address, as_json, record, resume, reference)
        run_session(settings, source, None, request)


def _as_recorded(settings: SessionSettings, source: RecordedSource, context: typer.Context) -> SessionSettings:
    """The settings of a recorded session, but for what the command line says otherwise. Raises UsageError."""
    from workers.session.settings import RUN_ONLY

    chosen = given_options(context) & SessionSettings.model_fields.keys() | RUN_ONLY - {"transcript", "rttm"}
    recorded = settings_from_recording(source.settings, source.path, chosen)
    return recorded.model_copy(update={name: getattr(settings, name) for name in chosen})


def _republish(source: str, speed: float | None, session: str | None, request: Request) -> None:
    """Publish the events of a past session again, under a new id, at the pace of its media clock."""
    import asyncio

    from stream.bus.connection import check, check_publishing, exists, public
    from stream.bus.keys import Keys
    from stream.bus.own_server import session_redis
    from stream.sources.recording import read_events
    from workers.console.display import display_for, tell
    from workers.session.opening import is_taken
    from workers.session.republish import republish, stored_events, timed

    with session_redis(request.redis, request.ephemeral) as url:
        asyncio.run(check(url))
        old = source.removeprefix("redis:")
        events = asyncio.run(stored_events(url, old, request.prefix)) if old != source else read_events(Path(source))
        keys = Keys(session or f"{events[0].session[:50]}-replay-{secrets.token_hex(3)}", request.prefix)
        asyncio.run(check_publishing(url, keys))
        if asyncio.run(exists(url, keys)):
            raise asyncio.run(is_taken(url, keys, may_resume=False))
        tell(f"events of session {keys.session}: {public(url)}")
        *_, (length, _) = timed(events)
        with display_for(request.as_json, Terminal(), length) as display:
            asyncio.run(republish(events, keys, url, speed, display))


def run_session(settings: SessionSettings, source: Source, speed: float | None, request: Request) -> None:
    """Run a session from its plan to its last event, and exit with its outcome."""
    import asyncio

    from model.device import choose
    from model.encoders.asr import check_name
    from stream.bus.connection import check, check_publishing
    from stream.bus.keys import Keys
    from stream.bus.own_server import session_redis
    from workers.console.display import summary, tell
    from workers.console.word_errors import WordScore
    from workers.research.downloads import fetch_recognizer, fetch_text_encoder
    from workers.session.planning import recording_of

    if request.ray_address is None:
        choose(settings.device)
    if settings.wants_recognizer:
        check_name(settings.asr_model)
    if request.resume and not settings.session:
        raise UsageError("--resume: say which --session")
    if request.reference is not None and (settings.transcript or settings.redact or settings.mask):
        raise UsageError("--reference measures words as heard: not with --transcript, --redact or --mask")
    score = None if request.reference is None else WordScore(request.reference, recording_of(source))
    with ExitStack() as cluster:
        url = cluster.enter_context(session_redis(request.redis, request.ephemeral))
        asyncio.run(check(url))
        if not request.resume:  # before anything is loaded or fetched
            asyncio.run(check_publishing(url, Keys(settings.session or "any", request.prefix)))
        fetch_text_encoder()
        if settings.wants_recognizer:
            fetch_recognizer(settings.asr == "whisper", settings.asr_model)
        try:
            outcome, seconds = asyncio.run(_session(settings, source, speed, request, url, score, cluster))
        except asyncio.CancelledError:
            raise typer.Exit(INTERRUPTED) from None
    ended = outcome.ended
    if source.repaired:
        tell(f"warning: {source.repaired} samples were not finite numbers; they were taken as silence")
    if ended.reason.startswith("error: "):
        raise fail(summary(ended, 0).removeprefix("error: "), RUNTIME)
    tell(summary(ended, seconds))
    if outcome.interrupted and not source.live:
        raise typer.Exit(INTERRUPTED)  # while Ctrl-C is how a live session ends
    if score is not None:  # of all that the script says
        tell(score.line(seconds))


async def _session(
    settings: SessionSettings,
    source: Source,
    speed: float | None,
    request: Request,
    url: str,
    score: WordScore | None,
    cluster: ExitStack,
) -> tuple[Outcome, float]:
    """The outcome of a session, and the seconds that it took. `cluster` holds what its models run in."""
    import asyncio

    from stream.bus.connection import public
    from stream.bus.tasks import cancelled
    from stream.sources.file import played_file
    from workers.cluster.actors import ray_cluster
    from workers.cluster.pools import start_pools
    from workers.console.display import display_for, tell
    from workers.console.progress import Waiting, waiting_for
    from workers.session.opening import open_session

    file = played_file(source)
    length = file.info.duration if file is not None else None
    waiting = Waiting(length)

    def start_models(plan: SessionPlan, needs: ModelRequirements) -> InferenceBackend:
        if score is not None and needs.asr is None:
            raise UsageError("--reference: no recognizer hears words (--asr, --modalities)")
        with _interruptible():
            with waiting_for("starting Ray"):
                cluster.enter_context(ray_cluster(request.ray_address))
            tell(f"events of session {plan.session}: {public(url)}")
            pools = start_pools(plan, needs)
            pools.loading = waiting.changed
            return pools

    opened: OpenSession = await open_session(
        settings, source, start_models, url, request.prefix, speed=speed, record=request.record,
        resume="required" if request.resume else "no",
    )  # fmt: skip
    if opened.recorder is not None:
        tell(f"recording into {opened.recorder.folder}")
    observers: list[EventObserver] = [] if score is None else [score]
    started = time.monotonic()
    if opened.plan.first_pass:
        waiting.listened_to(0.0)
    with display_for(request.as_json, Terminal(), length) as display:
        showing = asyncio.create_task(_show_waiting(waiting, display))
        try:
            outcome = await opened.run([display, *observers], waiting.listened_to)
        finally:
            await cancelled(showing)
    return outcome, time.monotonic() - started


async def _show_waiting(waiting: Waiting, display: EventObserver) -> None:
    """Say what is waited for until the session is at work: on a terminal under the table, else in a line of its own on
    stderr; where that is no terminal, in a line now and then."""
    import asyncio

    from workers.console.display import TableDisplay, tell
    from workers.console.progress import waiting_for

    await asyncio.sleep(WAITING_S)
    with ExitStack() as line:
        if isinstance(display, TableDisplay):
            display.loading, show = waiting.line, display.refresh
        elif sys.stdout.isatty():  # events come there, and a line that is drawn over and over would cut them
            return
        else:
            new = line.enter_context(waiting_for(waiting.line()))

            def show() -> None:
                new(waiting.line())
                if text := waiting.log_line():
                    tell(text)

        while waiting.line():
            show()
            await asyncio.sleep(WAITING_S)
        show()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end what happens inside at once: while a loop runs, asyncio would hold it back until that is done."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # Ctrl-C is ignored, as in a shell's background
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _track(text: str | None) -> int | Literal["all"] | None:
    """Number of an audio track, or all of them. Raises typer.Exit."""
    if text is None:
        return None
    if text == "all":
        return "all"
    if not re.fullmatch("[1-9][0-9]{0,2}", text):
        raise fail(f"--track: the number of an audio track, from 1, or all, not {text!r}", USAGE)
    return int(text)


def speed_of(text: str) -> float | None:
    """Times real time; None = as fast as it goes. Raises typer.Exit."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise fail(f"--speed: a positive number or max, not {text!r}", USAGE)
    return speed
