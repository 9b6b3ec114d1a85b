// The gateway's HTTP API and WebSockets.

const TOKEN = "undertone.token";

/** An answer that is not a success; `message` is one line for the reader. */
class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Dispatches "unauthorized" when a token is needed or wrong. */
export const auth = new EventTarget();

export const token = () => sessionStorage.getItem(TOKEN);
export const keepToken = (value) => sessionStorage.setItem(TOKEN, value);

const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

function explain(status, body) {
  let detail = null;
  try {
    detail = JSON.parse(body).detail;
  } catch {
    // Not JSON: a proxy's page, of no use to the reader.
  }
  if (status === 401) auth.dispatchEvent(new Event("unauthorized"));
  return new ApiError(status, detail || `The server answered ${status}.`);
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...authorization(), ...options.headers } });
  } catch {
    throw new ApiError(0, "The server cannot be reached.");
  }
  if (!response.ok) throw explain(response.status, await response.text());
  return response;
}

/** The JSON of a GET. Raises ApiError. */
export const get = async (path) => (await request(path)).json();

/** Readiness of the server, also where it is not ready: `loading` names the models that are being loaded. */
export const getReadiness = async () => (await fetch("/readyz")).json();

const sessionPath = (id, ...rest) =>
  ["/sessions", id, ...rest].map((part, at) => (at ? encodeURIComponent(part) : part)).join("/");

async function send(method, path, body) {
  const content =
    body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await request(path, { method, ...content });
  return response.status === 204 ? null : response.json();
}

export const getSession = (id) => get(sessionPath(id));
export const stopSession = (id) => send("DELETE", sessionPath(id));
export const createSession = (description) => send("POST", "/sessions", description);

/** Summary of a session, or of its last so many seconds. */
export const getSummary = (id, last) => inTurn(() => get(sessionPath(id, "summary") + (last ? `?last=${last}` : "")));

const MOST_AT_ONCE = 2; // of what takes the server some work: it refuses a token that asks for much at once
const waiting = [];
let underWay = 0;

/** The answer of `work`, begun when few others are under way. */
async function inTurn(work) {
  if (underWay >= MOST_AT_ONCE) await new Promise((resolve) => waiting.push(resolve));
  underWay += 1;
  try {
    return await work();
  } finally {
    underWay -= 1;
    waiting.shift()?.();
  }
}

/** Erase all that is kept of a session; answers what was removed, and what a second search found. */
export const eraseSession = (id) => send("DELETE", sessionPath(id, "data"));

export const readAnnotations = (id) => get(sessionPath(id, "annotations"));

/** Give a session another title or other tags. */
export const renameSession = (id, change) => send("PATCH", sessionPath(id), change);
export const addNote = (id, note) => send("POST", sessionPath(id, "notes"), note);
export const removeNote = (id, note) => send("DELETE", sessionPath(id, "notes", note));
export const correct = (id, utterance, correction) =>
  send("PUT", sessionPath(id, "corrections", utterance), correction);
export const withdrawCorrection = (id, utterance) => send("DELETE", sessionPath(id, "corrections", utterance));
export const setRules = (id, rules) => send("PUT", sessionPath(id, "rules"), rules);

const MADE_MS = 5000; // between two looks whether a recording can be played yet

/**
 * An address for a while at which a media element, which sends no token, gets the recording of a session.
 *
 * The server makes the file first; meanwhile `onWait(text)` answers whether it is still wanted.
 */
export async function mediaAddress(id, onWait) {
  for (;;) {
    try {
      return (await send("POST", sessionPath(id, "media", "ticket"))).url;
    } catch (error) {
      if (error.status !== 503 || onWait("The sound of the recording is being made ready…") === false) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, MADE_MS));
  }
}

/** Send a recording; `progress` hears the share that is sent. Answers the new session's description. */
export function uploadRecording(file, query, progress) {
  // fetch tells nothing of an upload's progress.
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", `/recordings?${new URLSearchParams(query)}`);
    for (const [name, value] of Object.entries(authorization())) sending.setRequestHeader(name, value);
    sending.upload.onprogress = ({ loaded, total }) => progress(total ? loaded / total : 0);
    sending.onerror = () => reject(new ApiError(0, "The upload broke off: the server cannot be reached."));
    sending.onload = () => {
      if (sending.status < 300) resolve(JSON.parse(sending.responseText));
      else reject(explain(sending.status, sending.responseText));
    };
    sending.send(file);
  });
}

/** Download an export of a session as a file. */
export async function download(id, { format, suffix }) {
  const response = await request(sessionPath(id, "export", format));
  const named = /filename="?([^";]+)/.exec(response.headers.get("Content-Disposition") ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = named ? named[1] : `${id}.${suffix.replace(/^\./, "")}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function openSocket(path) {
  const url = new URL(path, location.origin.replace(/^http/, "ws"));
  // A browser cannot set headers here, and refuses a connection whose offered subprotocol nobody takes.
  return token() ? new WebSocket(url, ["undertone", `bearer.${token()}`]) : new WebSocket(url);
}

export const openTrack = (id, track, query) =>
  openSocket(`${sessionPath(id)}/tracks/${track}?${new URLSearchParams(query)}`);

/** Seconds to wait before each new attempt: 1, 2, 4 ... 30. */
export const backOff = (attempt) => Math.min(30, 2 ** attempt);

/** A session's events, history first, over as many connections as it takes. */
export class EventFeed {
  #seen = new Set();
  #last = null;
  #attempt = 0;
  #socket = null;
  #timer = null;
  #closed = false;

  /** `onEvent(event)`; `onState("connected" | "waiting" | "closed" | "failed", text)`. */
  constructor(id, onEvent, onState) {
    this.id = id;
    this.onEvent = onEvent;
    this.onState = onState;
    this.#connect();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #connect() {
    const after = this.#last === null ? "" : `&after=${encodeURIComponent(this.#last)}`;
    const socket = openSocket(`${sessionPath(this.id)}/events?alerts=true&lines=true${after}`);
    this.#socket = socket;
    socket.onopen = () => this.#closed || this.onState("connected", "connected");
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code }) => this.#lost(code);
  }

  #receive(data) {
    this.#attempt = 0;
    for (const line of data.split("\n")) {
      if (this.#closed) return;
      const event = JSON.parse(line);
      this.#last = event.id;
      if (this.#seen.has(event.id)) continue;
      this.#seen.add(event.id);
      this.onEvent(event);
    }
  }

  async #lost(code) {
    if (this.#closed) return;
    if (code === 1000) return this.onState("closed", "connected");
    try {
      await getSession(this.id);
    } catch (error) {
      if ([401, 403, 404].includes(error.status)) return this.#closed || this.onState("failed", error.message);
    }
    if (this.#closed) return;
    const seconds = backOff(this.#attempt);
    this.#attempt += 1;
    this.onState("waiting", `reconnecting in ${seconds} s`);
    this.#timer = setTimeout(() => this.#connect(), 1000 * seconds);
  }
}
