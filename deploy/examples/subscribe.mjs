// The labels of a session in Node (tried with Node 20 and redis 6.3.1): npm install redis, then
//
//     UNDERTONE_REDIS=redis://localhost:6379/0 node subscribe.mjs SESSION
//
// History, then live; goes on where it was when Redis was away, and ends after session.ended.
import { createClient } from "redis";

const session = process.argv[2];
if (!session) {
  console.error("usage: node subscribe.mjs SESSION");
  process.exit(2);
}
const client = createClient({ url: process.env.UNDERTONE_REDIS ?? "redis://localhost:6379/0" });
client.on("error", (error) => console.error(error.message || error.code)); // it reconnects by itself
await client.connect();

const key = `undertone:{${session}}:events`;
let id = "0"; // the Stream is history and live in one: read on from the last position
for (let ended = false; !ended; ) {
  const streams = await client.xRead({ key, id }, { COUNT: 100, BLOCK: 5000 }).catch(() => null);
  for (const entry of streams?.[0].messages ?? []) {
    id = entry.id;
    const event = JSON.parse(entry.message.event);
    if (event.type === "emotion" && event.trigger === "speech_ended") {
      console.log(event.id, event.speaker, event.emotion, event.probabilities[event.emotion]);
    }
    ended = event.type === "session.ended";
  }
}
await client.close();
