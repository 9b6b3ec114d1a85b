"""Query of Deepgram's streaming interface: what is done, what is accepted without effect, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workers.cluster.request import MAX_TRACKS
from workers.errors import UsageError

RATES = range(8_000, 48_001)  # of linear16, in Hz
LANGUAGE = re.compile(r"([a-z]{2,3})(-[A-Za-z0-9]{2,8})*")
DONE = {
    "channels", "consent", "diarize", "diarize_model", "encoding", "interim_results", "language", "multichannel",
    "sample_rate", "undertone", "utterance_end_ms", "vad_events",
}  # fmt: skip
WITHOUT_EFFECT = {
    "callback_method", "diarize_version", "dictation", "endpointing", "extra", "filler_words", "keyterm", "keywords",
    "language_hint", "measurements", "mip_opt_out", "model", "no_delay", "numerals", "paragraphs", "punctuate",
    "sentiment", "smart_format", "tag", "tier", "utterances", "version",
}  # fmt: skip
"""Parameters about the form of the words, or about Deepgram's own models and accounts."""
REFUSED = {
    "callback": "results go over this connection only",
    "detect_entities": "entities are not detected",
    "detect_language": "leave out `language`, and it is detected",
    "detect_topics": "topics are not detected",
    "intents": "intents are not detected",
    "profanity_filter": "words are not filtered",
    "redact": "words are not redacted here; POST /sessions can",
    "replace": "words are not replaced",
    "search": "words are not searched for",
    "summarize": "a summary is at /sessions/ID/summary",
    "topics": "topics are not detected",
    "translate": "words are not translated",
}
"""Parameters whose absence a program would not notice, though it relies on them; `false` is accepted."""


class Unsupported(UsageError):
    """A parameter that this interface does not have, or not with this value."""

    http_status = 400


@dataclass(frozen=True)
class Wanted:
    """What a client asks for."""

    format: Literal["pcm", "webm"] = "webm"
    rate: int = 16_000
    """Sample rate of PCM in Hz."""
    channels: int = 1
    """Number of channels, each of which is one participant if there are several."""
    language: str | None = None
    """Code of the spoken language; None = detected."""
    consent: str | None = None
    interim_results: bool = False
    diarize: bool = False
    """Several people may speak on the one channel: they are told apart by voice, and numbered."""
    speech_started: bool = False
    utterance_end: bool = False
    own_messages: bool = False
    """Messages of types that Deepgram does not have, too: its Python library hands those to a program as None."""
    ignored: tuple[str, ...] = ()
    """Names of parameters that were accepted without effect."""

    @property
    def names(self) -> list[str | None]:
        """Name of each track's speaker; None: a room with several."""
        if self.channels > 1:
            return [f"channel {number}" for number in range(1, self.channels + 1)]
        return [None if self.diarize else "speaker"]


def read_query(parameters: Iterable[tuple[str, str]]) -> Wanted:
    """What a query asks for. Raises Unsupported."""
    given: dict[str, str] = {}
    ignored = set()
    for name, value in parameters:
        if name in WITHOUT_EFFECT:
            ignored.add(name)
        elif name in REFUSED:
            if value.lower() not in ("false", ""):
                raise Unsupported(f"{name}: {REFUSED[name]}; leave it out")
        elif name not in DONE:
            raise Unsupported(f"{name[:64]!r}: no parameter of this interface; leave it out")
        elif given.setdefault(name, value) != value:
            raise Unsupported(f"{name}: given twice")
    channels = _number(given, "channels", 1)
    is_split = _flag(given, "multichannel")
    diarize = _flag(given, "diarize") or "diarize_model" in given
    if not 1 <= channels <= MAX_TRACKS:
        raise Unsupported(f"channels: between 1 and {MAX_TRACKS}")
    if channels > 1 and not is_split:
        raise Unsupported("channels: several only with multichannel=true, a participant each")
    if channels > 1 and diarize:
        raise Unsupported("diarize: each channel of several is one participant; leave out diarize or multichannel")
    format, rate = _encoding(given)
    if format == "webm" and channels > 1:
        raise Unsupported("multichannel: only with encoding=linear16")
    return Wanted(
        format, rate, channels, _language(given), given.get("consent"), _flag(given, "interim_results"), diarize,
        _flag(given, "vad_events"), given.get("utterance_end_ms", "false").lower() != "false",
        _flag(given, "undertone"), tuple(sorted(ignored)),
    )  # fmt: skip


def _encoding(given: dict[str, str]) -> tuple[Literal["pcm", "webm"], int]:
    """Format of a track, and its rate in Hz."""
    if "encoding" not in given:
        return "webm", 16_000
    if given["encoding"] != "linear16":
        name = given["encoding"][:32]
        raise Unsupported(f"encoding {name!r}: send linear16, or WebM without this parameter")
    if "sample_rate" not in given:
        raise Unsupported("sample_rate: needed with encoding=linear16")
    rate = _number(given, "sample_rate", 16_000)
    if rate not in RATES:
        raise Unsupported(f"sample_rate: between {RATES[0]} and {RATES[-1]} Hz")
    return "pcm", rate


def _language(given: dict[str, str]) -> str | None:
    stated = given.get("language", "multi")
    if stated == "multi":
        return None
    if not (found := LANGUAGE.fullmatch(stated)):
        raise Unsupported("language: a code such as en or en-US, or multi")
    return found[1]


def _flag(given: dict[str, str], name: str) -> bool:
    value = given.get(name, "false").lower()
    if value not in ("true", "false"):
        raise Unsupported(f"{name}: true or false")
    return value == "true"


def _number(given: dict[str, str], name: str, default: int) -> int:
    value = given.get(name, str(default))
    if not (value.isascii() and value.isdecimal() and len(value) <= 9):
        raise Unsupported(f"{name}: a whole number")
    return int(value)
