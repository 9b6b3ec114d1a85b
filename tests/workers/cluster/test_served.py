"""What a session of a gateway takes from outside."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.recordings import voice, write_mp4

OPENED = """
import re, sys
from pathlib import Path
from stream.errors import MediaError
from stream.sources.file import FileSource
from workers.cluster.session_actor import bound_memory
if sys.argv[2] == "bounded":
    bound_memory(1 << 28)
try:
    FileSource(Path(sys.argv[1]))
except MediaError as error:
    print(error, file=sys.stderr)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""


def index_bomb(path: Path, entries: int) -> Path:
    """An MP4 of 18 KB that claims so many frames of one byte, of which FFmpeg would make an index in memory."""
    film = bytearray(write_mp4(path, voice(2)[None], 2, video=False).read_bytes())
    for box, *numbers in ((b"stsz", 1, entries), (b"stts", 1, entries, 1024), (b"stsc", 1, 1, entries, 1)):
        struct.pack_into(f">{len(numbers)}I", film, film.index(box) + 8, *numbers)
    path.write_bytes(film)
    return path


@pytest.mark.integration
def test_a_header_that_asks_for_much_memory_does_not_get_it(tmp_path: Path) -> None:
    taken = {}
    for name, entries, how in (("usual", 30, ""), ("bomb", 20_000_000, ""), ("bomb", 20_000_000, "bounded")):
        path = index_bomb(tmp_path / f"{name}.mp4", entries)
        done = subprocess.run([sys.executable, "-c", OPENED, path, how], capture_output=True, text=True, check=True)
        taken[f"{name} {how}"] = int(done.stdout)
    assert taken["bomb "] > taken["usual "] + 400, "else this tests nothing"
    assert taken["bomb bounded"] < taken["usual "] + 300
