"""The labels of live sound, in a program that has it: here raw samples on its standard input.

arecord -q -t raw -f S16_LE -r 16000 -c 1 | python listen.py
"""

import asyncio
import sys
from contextlib import suppress

import undertone


async def push(session: undertone.Listening) -> None:
    while pcm := await asyncio.to_thread(sys.stdin.buffer.read, 3_200):  # 0.1 s
        await session.push(pcm)
    session.end()


async def main() -> None:
    async with undertone.listen(16_000) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(push(session))
        async for event in session:
            if event.type == "emotion" and event.trigger == "speech_ended":
                print(f"{event.audio_start:6.1f} s  {event.speaker}: {event.emotion}  {event.text!r}", flush=True)


with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
    asyncio.run(main())
