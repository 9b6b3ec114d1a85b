"""deploy/asyncapi.yaml describes what clients get: every event of the golden sessions, at the addresses they have."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from stream.bus.keys import Keys
from tests.golden import GOLDEN
from tests.golden.events import read
from tests.support.paths import ROOT

ASYNCAPI = yaml.safe_load((ROOT / "deploy" / "asyncapi.yaml").read_text())


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.stem)
def test_golden_events_fit_their_schema(path: Path) -> None:
    for event in read(path):
        payload = ASYNCAPI["components"]["messages"][event["type"]]["payload"]
        jsonschema.validate(event, payload | {"components": ASYNCAPI["components"]})


def test_the_addresses_are_where_events_are_published() -> None:
    addresses = {channel["address"] for channel in ASYNCAPI["channels"].values()}
    keys = Keys("tag")  # between braces, as the address has it
    assert {keys.events, keys.channel} <= addresses
