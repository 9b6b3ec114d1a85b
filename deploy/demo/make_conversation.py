"""Makes the demo recording: a two-speaker, two-channel conversation spoken by espeak-ng, with its transcript.

Usage: python deploy/demo/make_conversation.py   (needs espeak-ng; writes workers/demo/conversation.*)
"""

from __future__ import annotations

import io
import subprocess
import wave
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 48_000  # what Opus runs at
DEMO = Path(__file__).parents[2] / "workers" / "demo"
VOICES = {"Mara": (0, "en-us+f3"), "Jonas": (1, "en-gb+m3")}

# speaker, pause before the line in seconds (negative: interrupts), pitch 0-99, words a minute, line
LINES = [
    ("Mara", 0.6, 50, 165, "Hi Jonas, thanks for coming. Did you find the way all right?"),
    ("Jonas", 0.5, 40, 160, "Yes, no problem at all. I took the early train."),
    ("Mara", 0.6, 62, 175, "Good. Because I have wonderful news. We got the grant!"),
    ("Jonas", 0.4, 65, 190, "What? Oh my God! Are you serious?"),
    ("Mara", 0.3, 66, 185, "Completely serious! I am so happy, I could dance!"),
    ("Jonas", 0.6, 50, 170, "That is great. Congratulations, you worked so hard for this."),
    ("Mara", 0.8, 42, 150, "There is one thing, though. They want us to let Peter go."),
    ("Jonas", 0.7, 60, 195, "No way! That is outrageous. He wrote half of it!"),
    ("Mara", 0.6, 38, 135, "I know. I am really sorry. I feel terrible about it."),
    ("Jonas", 0.4, 58, 190, "You should have told me. I hate it when people decide behind my back!"),
    ("Mara", 0.8, 36, 130, "I was afraid of what you would say. I could not sleep all night."),
    ("Jonas", 0.9, 38, 145, "Okay. I am sorry that I shouted. It is just so sad."),
    ("Mara", 0.6, 45, 155, "Let us talk to them again on Monday. Together."),
    ("Jonas", 0.5, 50, 165, "Yes. That is a good idea. Shall we have lunch?"),
]


def speak(voice: str, pitch: int, speed: int, line: str) -> NDArray[np.float32]:
    """[n] samples at RATE, without the silence that espeak-ng puts around them."""
    command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "--stdout", line]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    samples = samples[loud[0] : loud[-1]]
    places = np.arange(0, len(samples) - 1, rate / RATE)
    return 0.5 * np.interp(places, np.arange(len(samples)), samples).astype(np.float32)


def main() -> None:
    """Write the recording and the transcript."""
    pieces, stm, now = [], [], 0.0
    for name, pause, pitch, speed, line in LINES:
        channel, voice = VOICES[name]
        samples = speak(voice, pitch, speed, line)
        start = now + pause
        now = start + len(samples) / RATE
        pieces.append((channel, round(start * RATE), samples))
        stm.append(f"conversation {channel + 1} {name} {start:.2f} {now:.2f} {line}")
    audio = np.random.default_rng(0).normal(0, 0.0005, (2, round((now + 1.0) * RATE))).astype(np.float32)
    for channel, first, samples in pieces:
        audio[channel, first : first + len(samples)] += samples
    with av.open(str(DEMO / "conversation.opus"), "w", format="ogg") as container:
        # Mapping family 255 codes the channels apart: no voice leaks into the other's.
        stream = container.add_stream("libopus", rate=RATE, layout="stereo", options={"mapping_family": "255"})
        stream.bit_rate = 48_000
        for first in range(0, audio.shape[1], 960):
            block = np.pad(audio[:, first : first + 960], ((0, 0), (0, max(0, first + 960 - audio.shape[1]))))
            frame = av.AudioFrame.from_ndarray((block.T.reshape(1, -1) * 32767).astype(np.int16), "s16", "stereo")
            frame.sample_rate, frame.pts = RATE, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (DEMO / "conversation.stm").write_text("\n".join(stm) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
