"""A model whose one file two installed packages hold, a part each."""

from __future__ import annotations

import hashlib

from model.encoders.manifest import Model, ModelFile

CONTENT = bytes(range(256)) * 400
PARTS = (CONTENT[:50_000], CONTENT[50_000:])


def model(digest: str = hashlib.sha256(CONTENT).hexdigest()) -> Model:
    parts = ("net-part-one/net_part_one/net.bin.1", "net-part-two/net_part_two/net.bin.2")
    return Model(
        "net", "tests", "none", "https://example.org", (ModelFile("net.bin", digest, len(CONTENT), "", parts),)
    )
