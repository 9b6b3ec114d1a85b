#!/usr/bin/env bash
# Plays the demo recording into a virtual microphone, recognizes it live and measures the words against its script. Run
# inside deploy/virtual-microphone.sh.
set -euo pipefail
demo=$(dirname "$0")/../../workers/demo
wav=$(mktemp --suffix .wav)
trap 'rm -f "$wav"' EXIT
"${PYTHON:-python}" - "$demo/conversation.opus" "$wav" <<'PY'
import sys, wave
from pathlib import Path
import numpy as np
from stream.sources.file import FileSource
samples = np.concatenate([block.samples for block in FileSource(Path(sys.argv[1]), "split")], 1)
with wave.open(sys.argv[2], "wb") as file:
    file.setparams((2, 2, 16000, 0, "NONE", ""))
    file.writeframes((samples.T * 32767).astype(np.int16).tobytes())
PY
undertone live --channels 2 --names Mara,Jonas --seconds "${SECONDS_TO_HEAR:-70}" \
    --reference "$demo/conversation.stm" "$@" &
recognizer=$!
# Play once something is recording: the demo loses no word to the start-up of the recognizer.
for _ in $(seq 600); do
    [[ -n $(pactl list short source-outputs) ]] && break
    kill -0 "$recognizer" 2>/dev/null || { wait "$recognizer"; exit 1; }
    sleep 0.1
done
paplay --device=virtual "$wav"
wait "$recognizer"
