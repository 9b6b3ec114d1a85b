"""The settings of a session: all that a user may ask of it, each declared once.

The command line makes its options of these fields (`workers.cli.session_options`), the gateway its requests
(`workers.cluster.request`), and a recording keeps them as JSON, so that a replay listens the same way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from model.device import DeviceChoice
from stream.bus.annotations import Title
from stream.bus.keys import RETENTION_S, SESSION_ID
from stream.events import Agreement
from stream.speech.turns import MOST_PEOPLE
from workers.errors import UsageError

Recognizer = Literal["auto", "whisper", "none"]
"""Recognizers of speech. auto: Whisper where a model is here, else no words."""
VoiceActivity = Literal["auto", "webrtc", "silero", "pyannote"]
"""Detectors of speech. auto: pyannote, which hears people who talk at once, where people on one channel are told apart
by voice; else WebRTC's."""
Modality = Literal["text", "audio", "visual"]
SpeakersBy = Literal["auto", "channel", "turns", "cluster"]
"""Ways to tell speakers apart. auto: the first that the source and the annotations allow."""
SessionId = Annotated[str, Field(pattern=f"^{SESSION_ID.pattern}$")]

INTERIM_S = 3.0  # seconds of speech between interim labels, where somebody has the time to read them
RUN_ONLY = {
    "session", "title", "consent", "agreement", "recorded", "speculate", "kept", "transcript", "rttm", "device",
}  # fmt: skip
"""Settings of one run, which its recording does not hand on to a replay; of the files, it keeps copies."""


def _number_or_range(people: str | None) -> str | None:
    fewest, *most = (people or "1").split("-")
    numbers = [int(part) if part.isdecimal() else 0 for part in (fewest, *most)]
    if len(numbers) > 2 or not 1 <= numbers[0] <= numbers[-1] <= MOST_PEOPLE:
        wanted = f"a number of people such as 3, or a range such as 2-4, up to {MOST_PEOPLE}"
        raise PydanticCustomError("people", "{wanted}", {"wanted": wanted})
    return people


@dataclass(frozen=True)
class Help:
    """Metadata of a field: its line in a command's --help."""

    text: str


class CommonSettings(BaseModel):
    """Settings that every interface has: commands, REST and Python."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consent: Annotated[str | None, Help("Who agreed to the analysis; it is published with the session.")] = None
    title: Annotated[Title | None, Help("Title of the session, for people. [default: the source's name]")] = None
    session: Annotated[SessionId | None, Help("Id of the session. [default: made from the source's name]")] = None
    language: Annotated[str | None, Help("Code of the spoken language, such as en. [default: detected]")] = None
    modalities: Annotated[tuple[Modality, ...], Help("What may be used: text, audio, visual; comma-separated.")] = (
        "text", "audio", "visual",
    )  # fmt: skip
    redact: Annotated[bool, Help("Leave words out of all events.")] = False
    mask: Annotated[bool, Help("Mask names, numbers and addresses in the words of events.")] = False
    recorded: Annotated[bool, Help("Keep sound, pictures and events on disk.")] = False
    interim: Annotated[
        float | None,
        Field(ge=0),
        Help(
            "Seconds between labels while somebody talks; 0 = neither labels nor words before the end. "
            "[default: 3; 0 for a recording that is played as fast as it goes]"
        ),
    ] = None
    checkpoint: Annotated[str, Help("Name of a shipped checkpoint, or a folder.")] = "meld"
    asr: Annotated[Recognizer, Help("Speech recognizer; auto = whisper where a model is here.")] = "auto"
    vad: Annotated[
        VoiceActivity, Help("Speech detector; auto = pyannote for several people on one microphone, else webrtc.")
    ] = "auto"
    people: Annotated[
        str | None,
        AfterValidator(_number_or_range),
        Help("Number of people on one microphone, such as 3 or 2-4. [default: found out]"),
    ] = None


class SessionSettings(CommonSettings):
    """All settings, with those for who has a shell on the machine."""

    agreement: Annotated[Agreement | None, Help("Consent person by person, as a request over REST has it.")] = None

    asr_model: Annotated[
        str | None, Help("Whisper model: a size, Hugging Face id or folder. [default: base, or what is here]")
    ] = None
    device: Annotated[DeviceChoice, Help("Where models run; auto = on a GPU where there is one.")] = "auto"
    names: Annotated[dict[int, str], Help("Names of the speakers, in the order of the channels; comma-separated.")] = {}
    """Speaker by channel."""
    transcript: Annotated[
        Path | None, Help("Words with times (STM, VTT, SRT, TXT or CSV), used instead of a recognizer.")
    ] = None
    rttm: Annotated[Path | None, Help("Who speaks when (RTTM), used instead of a detector.")] = None
    speakers: Annotated[
        SpeakersBy, Help("Speakers are told apart by channel, by given turns, or by voice (cluster).")
    ] = "auto"
    enrolled: Annotated[bool, Help("Call known voices (`undertone enroll`) by name.")] = True
    speculate: Annotated[bool, Help("Begin to work at the first short silence, so that labels come sooner.")] = True
    kept: Annotated[int, Field(ge=1), Help("Seconds that Redis keeps the events after the last.")] = RETENTION_S

    @property
    def wants_recognizer(self) -> bool:
        """True where words have to be recognized: they may be used, and none are given."""
        return "text" in self.modalities and self.transcript is None and self.asr != "none"

    @property
    def people_count(self) -> tuple[int, int]:
        """Fewest and most people on one microphone."""
        if self.people is None:
            return 1, MOST_PEOPLE
        fewest, _, most = self.people.partition("-")
        return int(fewest), int(most or fewest)

    def at_pace(self, paced: bool) -> SessionSettings:
        """The same, with what depends on the pace decided. paced: in real time or a multiple of it; False: as fast as
        it goes, when nobody could read a label that holds for a blink."""
        interim = self.interim if self.interim is not None else INTERIM_S if paced else 0.0
        return self.model_copy(update={"interim": interim, "speculate": self.speculate and paced})

    def recording(self) -> tuple[dict[str, Any], dict[str, Path]]:
        """The part that a recording keeps to be replayed alike: settings as JSON, and the files that they name.

        Of the user's own models these are names: a recording travels, and their folders do not. Raises CheckpointError.
        """
        from model.fusion.checkpoint import identity, shipped

        files = {name: path for name in ("transcript", "rttm") if (path := getattr(self, name)) is not None}
        settings = self.model_dump(mode="json", exclude=RUN_ONLY)
        if self.checkpoint not in shipped():
            settings["checkpoint"] = identity(self.checkpoint)
        if self.asr_model is not None and Path(self.asr_model).is_dir():
            settings["asr_model"] = Path(self.asr_model).resolve().name
        return settings, files


def settings_from_recording(
    settings: dict[str, Any], folder: Path, chosen: Collection[str] = frozenset()
) -> SessionSettings:
    """The settings that the recording in a folder keeps. Raises UsageError, MediaError.

    chosen: names of settings that the user gives, so that the recording's do not count. Settings that only another
    version knows are left out, and a recognizer that only another version had is replaced by the one there is. The
    recording may come from somebody else: it names models that are known here and files of its own folder, or the user
    has to say that others are wanted.
    """
    from model.encoders.asr import SIZES
    from model.fusion.checkpoint import shipped
    from stream.sources.recording import file_of

    known = {name: value for name, value in settings.items() if name in SessionSettings.model_fields.keys() - chosen}
    known |= {name: file_of(folder, str(known[name])) for name in ("transcript", "rttm") if known.get(name) is not None}
    if known.get("asr") not in get_args(Recognizer):
        known["asr"] = "auto"
    for name, names in (("asr_model", list(SIZES)), ("checkpoint", shipped())):
        if known.get(name) is not None and known[name] not in names:
            option, value = "--" + name.replace("_", "-"), str(known[name])[:100]
            raise UsageError(
                f"{folder}: model {value!r} is not Undertone's; to use it, add {option} and its folder or id"
            )
    try:
        return SessionSettings(**known)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageError(f"{folder}: its settings are damaged ({problem})") from None
