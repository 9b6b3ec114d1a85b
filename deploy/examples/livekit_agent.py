"""The labels of a LiveKit room: an agent that hears everybody, and sends each label to the room.

undertone serve --no-token            # the gateway, on this machine
LIVEKIT_URL=… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=… python livekit_agent.py dev
"""

import os

from livekit import agents
from undertone.livekit import listen

GATEWAY = os.environ.get("UNDERTONE_GATEWAY", "http://127.0.0.1:8765")

server = agents.AgentServer()


@server.rtc_session()
async def entrypoint(context: agents.JobContext) -> None:
    await context.connect(auto_subscribe=agents.AutoSubscribe.AUDIO_ONLY)
    labels = listen(
        context.room, GATEWAY, consent="all in the room agreed", token=os.environ.get("UNDERTONE_TOKEN"),
        publish=["data"], settings={"title": context.room.name},
    )  # fmt: skip
    async for event in labels:
        if event.type == "emotion" and event.trigger == "speech_ended":
            print(f"{event.audio_start:6.1f} s  {event.speaker}: {event.emotion}", flush=True)


if __name__ == "__main__":
    agents.cli.run_app(server)
