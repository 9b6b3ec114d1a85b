"""Undertone in a program: the emotions of a conversation, utterance by utterance.

    import undertone

    for event in undertone.analyse("conversation.wav"):
        if event.type == "emotion" and event.final:
            print(event.speaker, event.emotion, event.text)

`listen` takes sound that the program pushes, `GatewaySession` sends it to a gateway, as `undertone.pipecat` and
`undertone.livekit` do; `subscribe`, `subscribe_sync`, `consume` and `follow` read over Redis what other processes
publish. Guide: deploy/guide/python.md, agents.md. Importing this is light: names are loaded when they are first used.

A package, because type checkers read no annotations of a module that stands alone (PEP 561); and below `workers/`,
because the repository has three source folders. The build takes it from here to the top of the wheel, and an editable
installation finds it here. All that it hands on is defined elsewhere.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stream import __version__

if TYPE_CHECKING:
    from model.errors import ModelError
    from stream.bus.connection import BusError, SessionNotFound
    from stream.bus.subscriber import consume, follow, make_group, subscribe, subscribe_sync
    from stream.errors import MediaError, StreamError, one_line
    from stream.events import (
        Alert,
        Degraded,
        Emotion,
        Event,
        EventsMissed,
        Lag,
        Latency,
        Modalities,
        SessionEnded,
        SessionStarted,
        SpeakerMerged,
        UtteranceFailed,
        UtteranceHeard,
        UtterancePartial,
        Visual,
        Word,
        parse,
    )
    from workers.api.remote import GatewayError, GatewaySession
    from workers.api.sessions import Listening, analyse, listen
    from workers.errors import UsageError, WorkersError
    from workers.session.runner import SessionError
    from workers.session.settings import SessionSettings as Settings

    ERRORS: tuple[type[StreamError], type[ModelError], type[WorkersError]]
    """Bases of all errors that Undertone raises on purpose; their message is a line for the user."""

_HOMES = {
    "stream.bus.connection": ("BusError", "SessionNotFound"),
    "stream.bus.subscriber": ("consume", "follow", "make_group", "subscribe", "subscribe_sync"),
    "stream.errors": ("MediaError", "one_line"),
    "stream.events": (
        "Alert", "Degraded", "Emotion", "Event", "EventsMissed", "Lag", "Latency", "Modalities", "SessionEnded",
        "SessionStarted", "SpeakerMerged", "UtteranceFailed", "UtteranceHeard", "UtterancePartial", "Visual", "Word",
        "parse",
    ),
    "workers.api.remote": ("GatewayError", "GatewaySession"),
    "workers.api.sessions": ("Listening", "analyse", "listen"),
    "workers.errors": ("UsageError",),
    "workers.session.runner": ("SessionError",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ERRORS",
    "Alert",
    "BusError",
    "Degraded",
    "Emotion",
    "Event",
    "EventsMissed",
    "GatewayError",
    "GatewaySession",
    "Lag",
    "Latency",
    "Listening",
    "MediaError",
    "Modalities",
    "SessionEnded",
    "SessionError",
    "SessionNotFound",
    "SessionStarted",
    "Settings",
    "SpeakerMerged",
    "UsageError",
    "UtteranceFailed",
    "UtteranceHeard",
    "UtterancePartial",
    "Visual",
    "Word",
    "__version__",
    "analyse",
    "consume",
    "follow",
    "listen",
    "make_group",
    "one_line",
    "parse",
    "subscribe",
    "subscribe_sync",
]


def __getattr__(name: str) -> Any:
    value: Any
    if name == "ERRORS":
        bases = (("stream.errors", "StreamError"), ("model.errors", "ModelError"), ("workers.errors", "WorkersError"))
        value = tuple(getattr(import_module(module), base) for module, base in bases)
    elif name == "Settings":
        value = import_module("workers.session.settings").SessionSettings
    elif name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
