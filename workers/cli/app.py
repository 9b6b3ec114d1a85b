"""The command line. Heavy imports happen inside the commands, so that --help is instant."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import bench, consume, keep, media, plan, research, service
from workers.console.errors import INTERRUPTED, RUNTIME, USAGE, fail, one_line_errors
from workers.console.options import Prefix

if TYPE_CHECKING:
    from stream.sources.base import Source
    from stream.sources.recording import RecordedSource
    from workers.session.planning import SessionSettings

app = typer.Typer(
    name="undertone",
    help="Recognizes emotion in conversation while it goes on, and publishes it over Redis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
research.register(app)
media.register(app)
service.register(app)
consume.register(app)
keep.register(app)
plan.register(app)
bench.register(app)

Redis = Annotated[str | None, typer.Option(help="Redis URL. [default: $UNDERTONE_REDIS, localhost, or a private one]")]
RayAddress = Annotated[str | None, typer.Option(help="Join this Ray cluster instead of starting one here.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, everything else on stderr.")]
Checkpoint = Annotated[str, typer.Option(help="A shipped checkpoint's name or a folder.")]
AsrKind = Annotated[str, typer.Option("--asr", help="auto, whisper or none.")]
AsrModel = Annotated[
    str | None, typer.Option(help="faster-whisper: a size, Hugging Face id or folder. [default: base, or what is here]")
]
Vad = Annotated[str, typer.Option(help="webrtc or silero.")]
ModalityList = Annotated[str, typer.Option("--modalities", help="What may be used, comma-separated.")]
Names = Annotated[str | None, typer.Option(help="Speakers of the channels in order, comma-separated.")]
SessionId = Annotated[str | None, typer.Option(help="Id of the session. [default: made from the source's name]")]
Language = Annotated[str | None, typer.Option(help="Spoken language for faster-whisper, as en. [default: detected]")]
Interim = Annotated[
    float, typer.Option(min=0, help="Seconds between interim labels; 0 = neither these nor words before the end.")
]
Enrolled = Annotated[bool, typer.Option(help="Call the voices of `undertone enroll` by name.")]
Consent = Annotated[str | None, typer.Option(help="Who agreed to the analysis, as published with the session.")]
Redact = Annotated[bool, typer.Option("--redact", help="Leave words out of all events.")]
Mask = Annotated[bool, typer.Option("--mask", help="Mask names, numbers and addresses in the words of events.")]
Reference = Annotated[
    Path | None,
    typer.Option(help="Script (STM, VTT, SRT or CSV) that the words heard are measured against at the end."),
]
Speculate = Annotated[bool, typer.Option(help="Begin at the first short silence. (Never with --speed max.)")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with --session, whose process was killed.")]
Keep = Annotated[float, typer.Option(min=0.01, max=87_600, help="Hours that Redis keeps the events after the last.")]
Record = Annotated[Path | None, typer.Option(help="Keep sound, pictures and events in a folder in this one.")]


@app.command()
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
    transcript: Annotated[
        Path | None, typer.Option(help="STM, VTT, SRT or CSV with times; used instead of ASR.")
    ] = None,
    rttm: Annotated[Path | None, typer.Option(help="Turns of the speakers, used instead of VAD.")] = None,
    speed: Annotated[str, typer.Option(help="1 = real time, N times as fast, or max.")] = "1",
    channels: Annotated[str, typer.Option(help="mix, split (a speaker each) or auto.")] = "auto",
    speakers: Annotated[str, typer.Option(help="channel, turns, cluster or auto.")] = "auto",
    names: Names = None,
    asr: AsrKind = "auto",
    asr_model: AsrModel = None,
    language: Language = None,
    interim: Annotated[
        float | None,
        typer.Option(min=0, help="As `live` has it. [default: 3; 0 with --speed max]"),
    ] = None,
    enrolled: Enrolled = True,
    vad: Vad = "webrtc",
    checkpoint: Checkpoint = "meld",
    modalities: ModalityList = "text,audio,visual",
    session: SessionId = None,
    consent: Consent = None,
    redact: Redact = False,
    mask: Mask = False,
    record: Record = None,
    keep: Keep = 24.0,
    speculate: Speculate = True,
    resume: Resume = False,
    reference: Reference = None,
    redis: Redis = None,
    prefix: Prefix = "undertone",
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Replay a recording as if it were live."""
    with one_line_errors():
        from stream.sources.file import FileSource
        from stream.sources.recording import RecordedSource
        from workers.session.planning import SessionSettings

        pace = _speed(speed)
        if interim is None:
            interim = 3.0 if pace is not None else 0.0  # nobody watches a label that holds for a blink
        if file.startswith("redis:") or file.endswith(".jsonl"):
            if reference is not None:
                raise fail("--reference: past events are published again, nothing is heard", USAGE)
            _republish(file, pace, session, redis, prefix, as_json)
            return
        _one_of("--channels", channels, ("auto", "mix", "split"))
        wishes = SessionSettings(
            checkpoint, asr, asr_model, vad, _list(modalities), dict(enumerate(_list(names))), session, consent, redact,
            transcript, rttm, speakers, language, interim, enrolled, speculate=speculate and pace is not None,
            kept=round(3600 * keep), mask=mask,
        )  # fmt: skip
        source: Source
        if Path(file).is_dir():
            source = recorded = RecordedSource(Path(file))
            wishes = _as_recorded(wishes, recorded, context)
        else:
            source = FileSource(Path(file), channels)
        _run(wishes, source, pace, redis, prefix, ray_address, as_json, record, resume, reference)


@app.command()
def live(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="[NAME=]SOUND[+CAMERA], one per participant. SOUND: mic, mic:DEVICE, monitor (what this machine "
            "plays), monitor:NAME, or a URL (rtsp, rtmp, http, hls, srt, udp, tcp). CAMERA: +camera or "
            "+camera:/dev/video2. "
            "[default: mic]"
        ),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, max=16, help="Of a microphone; more than one: a speaker each.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long. [default: at Ctrl-C]")] = None,
    reconnect: Annotated[float, typer.Option(min=0, help="Give a lost source up after so many seconds.")] = 300.0,
    names: Names = None,
    asr: AsrKind = "auto",
    asr_model: AsrModel = None,
    language: Language = None,
    interim: Interim = 3.0,
    enrolled: Enrolled = True,
    vad: Vad = "webrtc",
    checkpoint: Checkpoint = "meld",
    modalities: ModalityList = "text,audio,visual",
    session: SessionId = None,
    consent: Consent = None,
    redact: Redact = False,
    mask: Mask = False,
    record: Record = None,
    keep: Keep = 24.0,
    speculate: Speculate = True,
    resume: Resume = False,
    reference: Reference = None,
    redis: Redis = None,
    prefix: Prefix = "undertone",
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Listen to microphones, meetings, cameras and streams until Ctrl-C.

    Anna=mic Ben=monitor: you and the meeting. mic+camera: voice and face. rtsp://camera.local/door: a stream.
    """
    with one_line_errors():
        from stream.sources.spec import listen
        from workers.session.planning import SessionSettings

        source, given = listen(sources or [], channels, seconds, reconnect)
        named = given | dict(enumerate(_list(names)))
        wishes = SessionSettings(
            checkpoint, asr, asr_model, vad, _list(modalities), named, session, consent, redact,
            language=language, interim=interim, enrolled=enrolled, speculate=speculate, kept=round(3600 * keep),
            mask=mask,
        )  # fmt: skip
        _run(wishes, source, None, redis, prefix, ray_address, as_json, record, resume, reference)


def _as_recorded(wishes: SessionSettings, source: RecordedSource, context: typer.Context) -> SessionSettings:
    """As the recorded session listened, but for what the command line says otherwise."""
    from workers.session.planning import SessionSettings, UsageError, settings_from_recording

    said = {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}
    try:
        recorded = settings_from_recording(source.settings, source.path)
    except UsageError as error:
        raise fail(error, USAGE) from None
    changes = {name: getattr(wishes, name) for name in said if name in SessionSettings.__dataclass_fields__}
    return replace(
        recorded, session=wishes.session, consent=wishes.consent, kept=wishes.kept,
        **changes | {"speculate": wishes.speculate},
    )  # fmt: skip


def _republish(
    source: str, speed: float | None, session: str | None, redis: str | None, prefix: str, as_json: bool
) -> None:
    """Publish the events of a past session again, under a new id, at the pace of its media clock."""
    import asyncio

    from rich.console import Console

    from stream.bus.connection import exists, public
    from stream.bus.keys import Keys
    from stream.bus.server import redis_url
    from stream.sources.recording import read_events
    from workers.console.display import display_for, tell
    from workers.session.republish import republish, stored_events

    with redis_url(redis) as url:
        old = source.removeprefix("redis:")
        events = asyncio.run(stored_events(url, old, prefix)) if old != source else read_events(Path(source))
        name = session or f"{events[0].session[:50]}-replay-{secrets.token_hex(3)}"
        try:
            keys = Keys(name, prefix)
        except ValueError as error:
            raise fail(f"--session: {error}", USAGE) from None
        if asyncio.run(exists(url, keys)):
            raise fail(f"--session: {name} has events in this Redis already; choose another id", USAGE)
        tell(f"events of session {name}: {public(url)}")
        with display_for(as_json, Console()) as display:
            asyncio.run(republish(events, keys, url, speed, display))


def _run(
    wishes: SessionSettings,
    source: Source,
    speed: float | None,
    redis: str | None,
    prefix: str,
    ray_address: str | None,
    as_json: bool,
    record: Path | None,
    resume: bool,
    reference: Path | None,
) -> None:
    """Plan a session, start what it needs, carry it through, and exit with its outcome."""
    from workers.session.planning import RECOGNIZERS

    _one_of("--asr", wishes.asr, RECOGNIZERS)
    _one_of("--vad", wishes.vad, ("webrtc", "silero"))
    _one_of("--speakers", wishes.speakers, ("auto", "channel", "turns", "cluster"))
    import asyncio

    from rich.console import Console

    from stream.bus.connection import claim, public
    from stream.bus.keys import Keys
    from stream.bus.server import redis_url
    from stream.bus.spool import spool_path
    from stream.sources.base import OffsetSource
    from stream.sources.recording import Recorder, unused
    from workers.cluster.actors import ClusterError, ray_cluster
    from workers.cluster.pools import start_pools
    from workers.console.display import display_for, summary, tell
    from workers.console.word_errors import WordScore
    from workers.research.downloads import fetch_recognizer
    from workers.session.planning import UsageError, plan_session, recording_of, settings_of
    from workers.session.runner import EventObserver, SessionError, new_session, run
    from workers.session.snapshot import load_resume_point

    if resume and not wishes.session:
        raise fail("--resume: say which --session", USAGE)
    if reference is not None and (wishes.transcript or wishes.redact or wishes.mask):
        raise fail("--reference measures words as heard: not with --transcript, --redact or --mask", USAGE)
    score = None if reference is None else WordScore(reference, recording_of(source))
    live = not hasattr(source, "path")
    if record is not None:
        wishes = replace(wishes, recorded=True)

    try:
        if "text" in wishes.modalities and wishes.transcript is None and wishes.asr != "none":
            fetch_recognizer(wishes.asr == "whisper", wishes.asr_model)
        with redis_url(redis) as url:
            planned = plan_session(wishes, source)
            plan = planned.plan
            if score is not None and planned.needs.asr is None:
                raise UsageError("--reference: no recognizer hears words (--asr, --modalities)")
            keys = Keys(plan.session, prefix)
            left = asyncio.run(load_resume_point(url, keys)) if resume else None
            if resume and left is None:
                raise UsageError(f"--resume: session {plan.session} has ended, or left nothing in this Redis")
            if not resume and spool_path(plan.session, prefix).exists():
                raise UsageError(f"--session: events of {plan.session} wait on this disk (undertone spool --send)")
            if not resume and not asyncio.run(claim(url, keys)):
                raise UsageError(f"--session: {plan.session} is in use or has events in this Redis; choose another id")
            tell(f"events of session {plan.session}: {public(url)}")
            kept: list[EventObserver] = [] if score is None else [score]
            with ray_cluster(ray_address):
                if record is not None:
                    folder = record / plan.session
                    source = recorder = Recorder(source, unused(folder) if resume else folder, *settings_of(wishes))
                    kept.append(recorder)
                    tell(f"recording into {recorder.folder}")
                session = new_session(plan, start_pools(plan, planned.needs), url, prefix)
                if left is not None:
                    at = session.resume(left, replayed=not live)
                    source = OffsetSource(source, at) if live else source
                started = time.monotonic()
                with display_for(as_json, Console()) as display:
                    outcome = asyncio.run(run(session, source, speed, [display, *kept]))
    except UsageError as error:
        raise fail(error, USAGE) from None
    except (ClusterError, SessionError) as error:
        raise fail(error, RUNTIME) from None
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None
    ended = outcome.ended
    if source.repaired:
        tell(f"warning: {source.repaired} samples were not finite numbers; they were taken as silence")
    if ended.reason.startswith("error: "):
        raise fail(summary(ended, 0).removeprefix("error: "), RUNTIME)
    seconds = time.monotonic() - started
    tell(summary(ended, seconds))
    if score is not None:
        tell(score.line(seconds))
    if outcome.interrupted and not live:
        raise typer.Exit(INTERRUPTED)  # while Ctrl-C is how a live session ends


@app.command()
def doctor(redis: Redis = None, checkpoint: Checkpoint = "meld", as_json: Json = False) -> None:
    """Say what is installed, what a session would use, and what is missing."""
    with one_line_errors():
        import json
        from dataclasses import asdict

        from rich.console import Console

        from workers.cli.doctor import examine, findings_table

        findings = examine(redis, checkpoint)
        if as_json:
            print(json.dumps([asdict(finding) for finding in findings], indent=2))
        else:
            Console().print(findings_table(findings))
        if any(finding.state == "broken" for finding in findings):
            raise typer.Exit(RUNTIME)


@app.command()
def down(ray_address: RayAddress = "auto") -> None:
    """Stop every actor of ours in a Ray cluster."""
    with one_line_errors():
        from workers.cluster.actors import ClusterError, ray_cluster, stop_all
        from workers.console.display import tell

        try:
            with ray_cluster(ray_address):
                stopped = stop_all()
        except ClusterError as error:
            raise fail(error, RUNTIME) from None
        tell(f"stopped {len(stopped)} actors" + (f": {', '.join(stopped)}" if stopped else ""))


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise fail(f"--speed: a positive number or max, not {text!r}", USAGE)
    return speed


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise fail(f"{option}: one of {', '.join(choices)}, not {value!r}", USAGE)


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def main() -> None:
    """Entry point of the console script."""
    app()
