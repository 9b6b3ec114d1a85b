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
from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError
from redis.retry import Retry

from stream.bus.directory import overview
from stream.bus.forget import forget, rewrite_log
from stream.bus.keys import Keys
from stream.bus.publisher import Bus
from stream.bus.subscriber import consume, subscribe
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
    assert [session.state for session in await overview(secure.url("consumer"))] == ["ended"]
    assert [event.id async for event in subscribe(secure.url("consumer"), "x")] == ["x:ended"]
    assert [event.id async for event in consume(secure.url("consumer"), "x", "group", "me")] == ["x:ended"]


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


ALLOWED = [
    ("publisher", "SET undertone:alert:rule:x 1 NX EX 60"),
    ("publisher", "WATCH undertone:alert:rule:x"),
    ("publisher", "INCR undertone:token:monitoring:requests"),
    ("publisher", "SADD undertone:token:monitoring:sessions x"),
    ("publisher", "XADD undertone:alerts * event {}"),
    ("publisher", "XGROUP CREATE undertone:{old}:events alerts 0"),
    ("publisher", "XREADGROUP GROUP metrics me STREAMS undertone:{old}:events >"),
    ("publisher", "XAUTOCLAIM undertone:{old}:events metrics me 60000 0"),
    ("consumer", "HGETALL undertone:sessions"),
    ("consumer", "TIME"),
    ("consumer", "XREAD STREAMS undertone:alerts 0"),
    ("consumer", "XGROUP CREATE undertone:{old}:events mine 0"),
    ("consumer", "XREVRANGE undertone:{old}:events + - COUNT 1"),
    ("operator", "DEL undertone:{gone}:events"),
    ("operator", "SCAN 0 MATCH undertone:*"),
    ("operator", "INFO"),
    ("operator", "ACL LOG"),
    ("operator", "BGREWRITEAOF"),
]
REFUSED = [
    ("publisher", "FLUSHALL"),
    ("publisher", "SET other 1"),
    ("publisher", "PUBLISH other x"),
    ("publisher", "DEL undertone:{old}:events"),
    ("publisher", "XTRIM undertone:{old}:events MAXLEN 0"),
    ("publisher", "KEYS *"),
    ("publisher", "CONFIG GET *"),
    ("publisher", "CLIENT LIST"),
    ("publisher", "ACL LIST"),
    ("publisher", "EVAL return(1) 0"),
    ("consumer", "XADD undertone:{x}:events * event {}"),
    ("consumer", "XADD undertone:alerts * event {}"),
    ("consumer", "HSET undertone:sessions x now"),
    ("consumer", "GET undertone:token:monitoring:requests"),
    ("consumer", "SET undertone:{old}:alive forged"),
    ("consumer", "PUBLISH undertone:{x} forged"),
    ("consumer", "EXPIRE undertone:{old}:events 1"),
    ("consumer", "DEL undertone:{old}:events"),
    ("operator", "FLUSHALL"),
    ("operator", "GET other"),
    ("operator", "CONFIG SET maxmemory 1"),
    ("operator", "SHUTDOWN"),
    ("operator", "ACL SETUSER default on"),
]


@pytest.mark.parametrize(("user", "command"), ALLOWED)
def test_users_may(secure: SecureRedis, user: str, command: str) -> None:
    secure.as_user(user, *command.split())


@pytest.mark.parametrize(("user", "command"), REFUSED)
def test_users_may_not(secure: SecureRedis, user: str, command: str) -> None:
    with pytest.raises(NoPermissionError):
        secure.as_user(user, *command.split())


def test_consumers_subscribe_to_our_channels_only(secure: SecureRedis) -> None:
    with redis.Redis.from_url(secure.url("consumer")) as client, client.pubsub() as channels:
        channels.subscribe("undertone:{x}")
        assert channels.get_message(timeout=5)["type"] == "subscribe"
        channels.subscribe("other")
        with pytest.raises(NoPermissionError):
            channels.get_message(timeout=5)


def test_passwords_are_not_replaced_by_accident(secure: SecureRedis) -> None:
    command = [str(DEPLOY / "redis/make-users.sh"), str(secure.folder)]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    for user in ("publisher", "consumer", "operator"):
        assert (secure.folder / f"{user}.env").stat().st_mode & 0o077 == 0
    assert "SHA256" not in (secure.folder / "users.acl").read_text()
