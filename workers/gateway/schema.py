"""Interface descriptions generated from the code: OpenAPI of the gateway, AsyncAPI of the events."""

from __future__ import annotations

import json
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from stream import __version__, events
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
    events.EventsMissed,
    events.UtteranceFailed,
    events.SessionEnded,
)


def openapi() -> str:
    """OpenAPI of the gateway's REST interface, as JSON."""
    app = create_app(Settings("redis://localhost"), Access([], "redis://localhost", "undertone"))
    document = app.openapi()
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    # FastAPI describes the items of an event stream by a field that OpenAPI 3.1 does not have.
    events_route = document["paths"]["/sessions/{session}/events"]["get"]
    del events_route["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def asyncapi() -> str:
    """AsyncAPI 3.0 of the events and their channels, as YAML."""
    types: tuple[type[events.Base], ...] = (*KINDS, events.Alert)
    _, schemas = models_json_schema([(kind, "serialization") for kind in types], ref_template=REFERENCE)
    messages: dict[str, Any] = {}
    for kind in types:
        name = kind.model_fields["type"].default
        messages[name] = {
            "name": name,
            "summary": (kind.__doc__ or "").strip().splitlines()[0],
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
    session_events = [kind.model_fields["type"].default for kind in KINDS]
    in_redis = [name for name in session_events if name != "events.missed"]  # which readers tell themselves
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
            "version": __version__,
            "description": "Events of conversations, on Redis and over the gateway's WebSockets. "
            "An event may be delivered twice: drop an `id` you have seen.",
        },
        "channels": {
            "log": channel(
                "undertone:{tag}:events",
                in_redis,
                f"Redis Stream, the durable log: fields id, type and event (the JSON). About {MAX_EVENTS} events are "
                f"kept, until {RETENTION_S // 3600} h after the last, or as `session.started` says (`kept`, in "
                "seconds).",
                tag,
            ),
            "live": channel("undertone:{tag}", in_redis, "Redis Pub/Sub channel: the JSON, without history.", tag),
            "socket": channel(
                "/sessions/{session}/events",
                [*session_events, "alert"],
                "The gateway's WebSocket; ?after=ID continues after that event. With ?alerts=true alerts of the "
                "session's own rules come behind the events that triggered them; with ?lines=true a message may have "
                "several events, one a line.",
                session,
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
    """Repeats values instead of using YAML's anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
