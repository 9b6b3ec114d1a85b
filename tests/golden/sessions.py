"""One session of each kind, as a client gets its events: started by a command or over REST, on real Redis and Ray."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import httpx
import numpy as np
import redis
from websockets.sync.client import connect

from tests.golden.events import Json, shape
from tests.support.commands import UNDERTONE
from tests.support.gateways import Gateway
from tests.support.paths import DEMO, DEMO_TRANSCRIPT, ROOT
from tests.support.recordings import RATE, write_wav
from tests.support.senders import tcp_sender, transport_stream

DEMO_FILES = [str(path.relative_to(ROOT)) for path in (DEMO, DEMO_TRANSCRIPT)]
LIVE = 8.0  # seconds of `one_voice`


@dataclass(frozen=True)
class Servers:
    """Addresses."""

    redis: str
    ray: str


@dataclass(frozen=True)
class Run:
    """What a session's client got, a line an event."""

    lines: list[str]

    @property
    def events(self) -> list[Json]:
        return [json.loads(line) for line in self.lines]


def command(servers: Servers, kind: str, session: str, *options: object) -> list[str]:
    given = ["--session", session, "--json", "--redis", servers.redis, "--ray-address", servers.ray]
    return [UNDERTONE, kind, *map(str, options), *given]


def replayed(servers: Servers, session: str, *options: object) -> Run:
    """A replay with words given, named as the golden files name them wherever the checkout lies."""
    file, transcript = DEMO_FILES
    return run(command(servers, "replay", session, file, "--transcript", transcript, *options))


def run(words: list[str], folder: Path = ROOT) -> Run:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return Run(done.stdout.splitlines())


def file(servers: Servers) -> Run:
    return replayed(servers, "wire-file", "--speed", "max")


def redacted(servers: Servers) -> Run:
    return replayed(servers, "wire-redacted", "--speed", "max", "--redact")


def live(servers: Servers) -> Run:
    """A stream over TCP, at its pace, labelled while somebody talks too."""
    with tcp_sender([(transport_stream(one_voice()), LIVE + 2)]) as url:
        options = ("--seconds", LIVE, "--asr", "none", "--modalities", "text,audio", "--interim", 1)
        got = run(command(servers, "live", "wire-live", f"Door={url}", *options))
    return Run([line.replace(url, "tcp://…") for line in got.lines])


def media(folder: Path) -> list[str]:
    """The options of a gateway that has the recording."""
    folder.mkdir()
    shutil.copy(DEMO, folder / "demo.opus")
    shutil.copy(DEMO_TRANSCRIPT, folder / "demo.stm")
    return ["--media", str(folder)]


def served(gateway: Gateway) -> Run:
    """A file of the gateway's media folder, its events over the WebSocket."""
    source = {"kind": "file", "name": "demo.opus", "transcript": "demo.stm", "speed": None}
    asked = {"id": "wire-served", "consent": "synthetic voices", "source": source}
    answer = httpx.post(f"{gateway.http}/sessions", json=asked, timeout=120)
    assert answer.status_code == 201, answer.text
    with connect(f"{gateway.ws}/sessions/wire-served/events") as socket:
        return Run([str(message) for message in socket])


def resumed(servers: Servers) -> tuple[Run, Json]:
    """Killed after its second label, and resumed: all its events as Redis has them, and what else is there."""
    url, options, found = servers.redis, ("--prefix", "wire", "--interim", 1), {}
    before: Json = {}

    def look() -> None:
        before.update(keys(url, "wire", "wire-resumed"))
        with redis.Redis.from_url(url, decode_responses=True) as client:
            if alive := client.get("wire:{wire-resumed}:alive"):
                found["alive"] = shape(json.loads(alive))

    killed(servers, "wire-resumed", "1:0", [DEMO_FILES[0], "--transcript", DEMO_FILES[1], *options], look)
    look()
    replayed(servers, "wire-resumed", "--speed", "max", "--resume", *options)
    after = keys(url, "wire", "wire-resumed")
    after.pop("wire:{SESSION}:alive", None)  # for ten seconds
    found |= {"while it goes on": before, "when it has ended": after}
    return Run([fields["event"] for _, fields in stored(url, "wire:{wire-resumed}:events")]), found


def killed(
    servers: Servers, session: str, event: str, options: Sequence[object], each: Callable[[], None] = lambda: None
) -> None:
    """A replay at double speed whose process is killed when an event with an id that ends so is there. `each`: called
    at each event until then."""
    words = command(servers, "replay", session, *options, "--speed", 2)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert process.stdout is not None
    for line in process.stdout:
        each()
        if line.startswith(f'{{"schema":1,"id":"{session}:{event}"'):
            process.kill()
    process.stdout.close()
    assert process.wait() < 0, f"it never said {event}"


def stored(url: str, stream: str) -> list[tuple[str, dict[str, str]]]:
    """A Stream's entries, by a client that shares no code with ours."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.xrange(stream)


def keys(url: str, prefix: str, session: str) -> Json:
    """What Redis has under a prefix that only one session uses: the type of each key, and whether it expires."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        found = {}
        for key in client.scan_iter(f"{prefix}:*"):
            expires = ", expires" if client.ttl(key) > 0 else ""
            found[key.replace(session, "SESSION")] = f"{client.type(key)}{expires}"
        return {key: found[key] for key in sorted(found) if found[key] != "none"}  # it has expired meanwhile


def voices() -> np.ndarray:
    """The demo, [2, n] at 16 kHz: a voice each."""
    with av.open(str(DEMO)) as container:
        resampler = av.AudioResampler("fltp", "stereo", RATE)
        frames = [each for frame in container.decode(audio=0) for each in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray() for frame in [*frames, *resampler.resample(None)]], 1)


def one_voice() -> np.ndarray:
    """Two utterances of the demo's first speaker, [n] at 16 kHz."""
    mara = voices()[0]
    return np.concatenate([mara[round(a * RATE) : round(b * RATE)] for a, b in ((0, 5.6), (8.4, 12.8))])


def overlapping(folder: Path) -> list[str]:
    """A recording and its transcript in a folder: the demo's beginning, in which the second speaker does not wait."""
    early, samples = 1.5, voices()[:, : 24 * RATE]
    samples = np.stack([samples[0], np.roll(samples[1], -round(early * RATE))])[:, : 22 * RATE]
    lines = [line.split(maxsplit=5) for line in DEMO_TRANSCRIPT.read_text().splitlines()[:6]]
    for line in lines[1::2]:
        line[3:5] = [str(float(time) - early) for time in line[3:5]]
    (folder / "conversation.stm").write_text("".join(" ".join(line) + "\n" for line in lines))
    return [str(write_wav(folder / "conversation.wav", samples)), "--transcript", str(folder / "conversation.stm")]
