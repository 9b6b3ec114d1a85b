"""The short version of `python -m tests.chaos kills`: a session's every process is killed while it goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import httpx

from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import history, subscribe
from stream.events import Emotion, UtterancePartial
from tests.chaos.kills import Plan, campaign
from tests.chaos.service import GIVEN, OPTIONS, Service
from tests.chaos.truth import durable_log, judge, labels
from tests.support.commands import UNDERTONE
from tests.support.events import ended, notice
from tests.support.gateways import gateways
from tests.support.paths import DEMO, DEMO_TRANSCRIPT
from tests.support.redis_servers import server


async def test_nothing_is_lost_when_processes_are_killed(tmp_path: Path, redis_url: str, ray_address: str) -> None:
    service = Service(tmp_path, redis_url, ray_address)
    try:
        order = ("given", "live", "encoder", "recognizer", "gateway")
        plan = Plan(3, (1.0, 2.0), lanes=("given", "live"), order=order, said=15.0)
        tallies, verdicts = await campaign(service, plan, print)
    finally:
        service.close()
    assert sum(tally.kills for tally in tallies.values()) == 5
    assert all(len(tally.recoveries) == tally.kills for tally in tallies.values())
    for lane, verdict in verdicts.items():
        assert verdict.clean, f"{lane}: {verdict}"
    assert verdicts["given"].failed == 0, "a recording is there to be heard again"
    assert [verdict.restarts for verdict in verdicts.values()] == [1, 1], "who is killed midway says that it goes on"


SAID = 12.1  # seconds, the end of the third utterance


async def test_a_gateway_told_to_go_in_mid_utterance_labels_what_was_heard(tmp_path: Path, redis_url: str) -> None:
    """Its Ray is its own, so its sessions go with it."""
    shutil.copy(DEMO, tmp_path / "demo.opus")
    shutil.copy(DEMO_TRANSCRIPT, tmp_path / "demo.stm")
    with gateways(tmp_path, 1, "--redis", redis_url, "--media", str(tmp_path)) as (gateway,):
        async with httpx.AsyncClient(base_url=gateway.http, timeout=120) as client:
            asked = {**OPTIONS, "id": "cut-off", "source": GIVEN | {"speed": 1}, "interim": 1}
            assert (await client.post("/sessions", json=asked)).status_code == 201
        async for event in subscribe(redis_url, "cut-off"):
            if isinstance(event, Emotion | UtterancePartial) and event.utterance == 2:
                break  # somebody is speaking
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(60) == 0, gateway.log.read_text()
    log = durable_log(redis_url, "cut-off")
    verdict = judge(log, None)
    assert verdict.clean and verdict.failed == 0, verdict
    assert [event.utterance for event in labels(log, 0).values()] == [0, 1, 2]
    assert labels(log, 0)[2].audio_end < SAID - 0.5, "the last one was cut off"


async def test_a_replay_that_is_killed_goes_on_with_resume(redis_url: str, ray_address: str) -> None:
    def command(session: str) -> list[str]:
        options = ["--session", session, "--speed", "8", "--redis", redis_url, "--ray-address", ray_address]
        return [UNDERTONE, "replay", str(DEMO), "--transcript", str(DEMO_TRANSCRIPT), "--json", *options]

    subprocess.run(command("undisturbed"), check=True, capture_output=True)
    early = subprocess.run([*command("killed"), "--resume"], capture_output=True, text=True, check=False)
    assert early.returncode == 2
    assert "--resume: no session 'killed' in this Redis; there are undisturbed" in early.stderr
    with subprocess.Popen(command("killed"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"id":"killed:4:0"' in line:
                break
        process.kill()
    again = subprocess.run(command("killed"), capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "session killed has not ended, and gives no sign of life: --resume goes on with it, " in again.stderr
    resumed = subprocess.run([*command("killed"), "--resume"], capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    verdict = judge(durable_log(redis_url, "killed"), await history(redis_url, "undisturbed"))
    assert verdict.clean, verdict
    assert (verdict.utterances, verdict.failed, verdict.restarts) == (14, 0, 1)


async def test_events_that_wait_on_disk_are_shown_and_sent(tmp_path: Path) -> None:
    def spool(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([UNDERTONE, "spool", *options], capture_output=True, text=True, check=False)

    with server(tmp_path) as redis:
        redis.kill()
        bus = Bus(redis.url, Keys("waits"))
        for event in (notice("waits", 0), notice("waits", 1), ended("waits")):
            bus.publish(event)
        assert not await bus.aclose(timeout=0.5)
        assert spool().stdout.startswith("waits  3 wait in ")
        away = spool("--send", "--redis", redis.url)
        assert away.returncode != 0
        assert "no Redis answers" in away.stderr
        redis.start()
        sent = spool("--send", "--redis", redis.url)
        assert sent.returncode == 0, sent.stderr
        assert "waits: 3 published" in sent.stderr
        assert [event.id for event in durable_log(redis.url, "waits")] == [
            "waits:notice:0", "waits:notice:1", "waits:ended",
        ]  # fmt: skip
        assert spool().stdout == ""
