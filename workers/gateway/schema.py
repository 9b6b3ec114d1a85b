"""The interfaces as files, generated from the code: OpenAPI of the gateway, AsyncAPI of the events."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from stream import events
from stream.bus.keys import RETENTION_S
from stream.bus.publisher import MAX_EVENTS
from workers.gateway.access import Access
from workers.gateway.app import create_app
from workers.gateway.state import Settings

REFERENCE = "#/components/schemas/{model}"
KINDS: tuple[type[events.Base], ...] = (
    events.SessionStarted,
    events.UtterancePartial,
    events.UtteranceHeard,
    events.Emotion,
    events.SpeakerMerged,
    events.Lag,
    events.Degraded,
    events.UtteranceFailed,
    events.SessionEnded,
)


def openapi() -> str:
    """The gateway's REST side, as JSON."""
    app = create_app(Settings("redis://localhost"), Access([], "redis://localhost", "undertone"))
    described = app.openapi()
    described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    described["security"] = [{"token": []}]
    return json.dumps(described, indent=1, sort_keys=True) + "\n"


def asyncapi() -> str:
    """The events and where they are published, as YAML (AsyncAPI 3.0)."""
    every: tuple[type[events.Base], ...] = (*KINDS, events.Alert)
    _, schemas = models_json_schema([(kind, "serialization") for kind in every], ref_template=REFERENCE)
    messages: dict[str, Any] = {}
    for kind in every:
        name = kind.model_fields["type"].default
        messages[name] = {
            "name": name,
            "summary": (kind.__doc__ or "").strip().splitlines()[0],
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
    of_session = [kind.model_fields["type"].default for kind in KINDS]
    tag = {"tag": {"description": "The session's id between braces, {my-session}: Redis Cluster's hash tag."}}
    session = {"session": {"description": "The session's id."}}

    def channel(address: str, names: list[str], description: str, parameters: dict[str, Any] | None = None) -> Any:
        made: dict[str, Any] = {"address": address, "description": description}
        if parameters:
            made["parameters"] = parameters
        made["messages"] = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
        return made

    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Undertone",
            "version": version("undertone"),
            "description": "Events of conversations, on Redis and over the gateway's WebSockets. "
            "Drop what you have seen by `id`.",
        },
        "channels": {
            "log": channel(
                "undertone:{tag}:events",
                of_session,
                f"Redis Stream, the durable log: fields id, type and event (the JSON). About {MAX_EVENTS} events are "
                f"kept, until {RETENTION_S // 3600} h after the last, or as `session.started` says (`kept`, in "
                "seconds).",
                tag,
            ),
            "live": channel("undertone:{tag}", of_session, "Redis Pub/Sub channel: the JSON, nothing kept.", tag),
            "socket": channel(
                "/sessions/{session}/events", of_session, "The gateway's WebSocket; ?after=ID goes on there.", session
            ),
            "alerts": channel("undertone:alerts", ["alert"], "Redis Stream and Pub/Sub channel of `undertone alert`."),
        },
        "operations": {
            f"publish-{name}": {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}
            for name in ("log", "live", "socket", "alerts")
        },
        "components": {"messages": messages, "schemas": schemas["$defs"]},
    }
    text: str = yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Plain(yaml.SafeDumper):  # type: ignore[misc]  # untyped
    """Says twice what occurs twice, instead of YAML's anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
