"""The files of deploy/, each by the tool that reads it, and Redis's users by a real Redis."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError
from redis.retry import Retry

from stream.bus.connection import BusError
from stream.bus.directory import overview
from stream.bus.forget import forget, rewrite_log
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import consume, make_group, subscribe
from stream.clock import VirtualClock
from stream.events import SessionEnded
from tests.support.paths import DEPLOY, ROOT
from tests.support.secure_redis import SecureRedis, passes, tool

GENERATED = {DEPLOY / "asyncapi.yaml"}
YAML = sorted(
    path
    for pattern in ("*.yaml", "*.yml")
    for path in DEPLOY.rglob(pattern)
    if path.parent.name not in ("templates", "secrets") and path not in GENERATED
)
YAMLLINT = "{extends: default, rules: {document-start: disable, line-length: {max: 120}}}"
HISTOGRAMS = {"undertone_stage_seconds", "undertone_label_seconds"}
METRICS = HISTOGRAMS | {
    "undertone_events_total",
    "undertone_events_skipped_total",
    "undertone_utterances_failed_total",
    "undertone_degraded_total",
    "undertone_lost_audio_seconds_total",
    "undertone_sessions",
    "undertone_in_flight_utterances",
    "undertone_lag_seconds",
    "undertone_real_time_factor",
    "undertone_build_info",
    "undertone_model_info",
    "undertone_http_requests_total",
    "undertone_websockets",
    "undertone_refused_total",
}


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_is_clean(path: Path) -> None:
    passes(tool("yamllint"), "--strict", "-d", YAMLLINT, path)


def test_containerfile_is_clean() -> None:
    passes(tool("hadolint"), "Containerfile")


def test_containerfile_installs_the_torch_of_the_project() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    installed = re.findall(r"torch==[\d.]+", (DEPLOY / "Containerfile").read_text())
    assert len(installed) == 2
    assert set(installed) <= set(wanted)


def test_compose_fits_its_schema() -> None:
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_compose_publishes_the_gateway_alone_and_writes_nowhere() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["healthcheck"]["test"], name


def test_chart_runs_the_ray_of_the_constraints() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes/undertone/values.yaml").read_text())
    assert f"ray=={values['ray']['version']}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_unit_is_valid_and_outlives_its_drain(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd/undertone.service").read_text()
    drain, stop = re.search(r"--drain (\d+)", unit), re.search(r"^TimeoutStopSec=(\d+)", unit, re.M)
    assert drain and stop and int(drain[1]) < int(stop[1])
    here = tmp_path / "undertone.service"
    here.write_text(unit.replace("/opt/undertone/bin/undertone", sys.executable))
    analyze = tool("systemd-analyze")
    passes(analyze, "verify", "--man=no", here)
    passes(analyze, "security", "--offline=true", "--threshold=20", here)  # tenths: exposure of at most 2.0 of 10


def test_timer_is_valid(tmp_path: Path) -> None:
    for name in ("undertone-forget.service", "undertone-forget.timer"):
        unit = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(unit.replace("/opt/undertone/bin/undertone", sys.executable))
    analyze = tool("systemd-analyze")
    passes(analyze, "verify", "--man=no", tmp_path / "undertone-forget.timer")
    passes(analyze, "security", "--offline=true", "--threshold=20", tmp_path / "undertone-forget.service")


def test_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "prometheus", tmp_path, dirs_exist_ok=True)
    (tmp_path / "metrics_token").write_text("secret")
    passes(tool("promtool"), "check", "config", "prometheus.yml", cwd=tmp_path)


def test_alerts_fire_when_they_should() -> None:
    passes(tool("promtool"), "check", "rules", "prometheus/alerts.yml")
    passes(tool("promtool"), "test", "rules", "prometheus/alerts.test.yml")


def board_queries() -> list[str]:
    board = json.loads((DEPLOY / "grafana/undertone.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def test_board_asks_valid_questions(tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "5m").replace("$job", "undertone") for query in board_queries()]
    assert len(queries) > 15
    assert not [query for query in queries if "$" in query]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    passes(tool("promtool"), "check", "rules", tmp_path / "board.yml")


def test_board_and_alerts_name_metrics_that_exist() -> None:
    alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    exist = METRICS | {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "count", "sum")}
    for query in [*board_queries(), *(rule["expr"] for rule in alerts)]:
        assert set(re.findall(r"\bundertone_\w+", query)) <= exist, query


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, ConnectionError),
        ({"ssl": True}, ConnectionError),
        ({"ssl": True, "ssl_ca_certs": "ca.crt"}, AuthenticationError),
        ({"ssl": True, "ssl_ca_certs": "ca.crt", "username": "default", "password": "x"}, AuthenticationError),
    ],
    ids=["no TLS", "unknown authority", "no password", "default user"],
)
def test_redis_turns_away(secure: SecureRedis, options: dict[str, Any], error: type[Exception]) -> None:
    once = Retry(NoBackoff(), 0)
    if "ssl_ca_certs" in options:
        options = options | {"ssl_ca_certs": str(secure.folder / options["ssl_ca_certs"])}
    with redis.Redis(port=secure.port, retry=once, **options) as client, pytest.raises(error):
        client.ping()


async def test_users_may_do_what_the_program_does(secure: SecureRedis) -> None:
    keys = Keys("x")
    ended = SessionEnded(
        id="x:ended", session="x", reason="end of source", duration=0, utterances=0, failed=0, counts={}
    )
    bus = Bus(secure.url("publisher"), keys)
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(ended)
    await bus.beat("{}")
    assert await bus.aclose(timeout=5)
    assert [session.state for session in await overview(secure.url("reader"))] == ["ended"]
    assert [event.id async for event in subscribe(secure.url("reader"), "x")] == ["x:ended"]
    with pytest.raises(BusError, match="no group 'group', and this Redis user may not make it"):
        await anext(consume(secure.url("worker"), "x", "group", "me"))
    await make_group(secure.url("publisher"), "x", "group")
    await make_group(secure.url("operator"), "x", "group")
    assert [event.id async for event in consume(secure.url("worker"), "x", "group", "me")] == ["x:ended"]


async def test_a_worker_is_told_who_makes_its_group(secure: SecureRedis) -> None:
    """And waits, as everybody does, for a session that has not begun."""
    session, worker = "late", secure.url("worker")
    with pytest.raises(BusError, match="no session 'late'"):
        await make_group(secure.url("publisher"), session, "team")
    waiting = asyncio.create_task(anext(consume(worker, session, "team", "me", wait=None, clock=VirtualClock())))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    secure.as_user("publisher", "XADD", Keys(session).events, "*", "event", "{}")
    with pytest.raises(BusError, match=r"stream\.make_group, or XGROUP CREATE undertone:\{late\}:events team 0"):
        await waiting
    with pytest.raises(redis.exceptions.NoPermissionError):
        await anext(consume(secure.url("reader"), session, "team", "me"))


async def test_the_operator_forgets_and_the_publisher_may_not(secure: SecureRedis) -> None:
    """With the append-only file of this configuration, in which nothing of it stays either."""
    keys = Keys("gone")
    bus = Bus(secure.url("publisher"), keys)
    await bus.register("2026-01-01T00:00:00Z")
    bus.publish(
        SessionEnded(id="gone:ended", session="gone", reason="marzipan", duration=0, utterances=0, failed=0, counts={})
    )
    assert await bus.aclose(timeout=5)
    with pytest.raises(redis.exceptions.NoPermissionError):
        await forget(secure.url("publisher"), keys)
    done = await forget(secure.url("operator"), keys)
    assert done.removed.keys == [keys.events] and not done.left
    assert await rewrite_log(secure.url("operator")) == 1
    async with asyncio.timeout(10):
        while any(b"marzipan" in path.read_bytes() for path in secure.folder.rglob("*") if path.is_file()):
            await asyncio.sleep(0.1)


def test_passwords_are_not_replaced_by_accident(secure: SecureRedis) -> None:
    command = [str(DEPLOY / "redis/make-users.sh"), str(secure.folder)]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    for user in ("publisher", "reader", "worker", "operator"):
        assert (secure.folder / f"{user}.env").stat().st_mode & 0o077 == 0
    assert "SHA256" not in (secure.folder / "users.acl").read_text()
