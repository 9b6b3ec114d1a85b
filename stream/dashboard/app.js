// The page: sign-in, the list of sessions, and which view is shown.

import { auth, get, keepToken, token } from "./api.js";
import { AnalysisBar } from "./bar.js";
import { byId } from "./dom.js";
import { Loading } from "./loading.js";
import { SessionList } from "./sessions.js";
import { StartForm } from "./start.js";
import { SessionView } from "./view.js";

const bar = new AnalysisBar();
const reach = { server: ["waiting", "connecting…"], feed: ["connected", "connected"] };
const list = new SessionList(onSessions, (...state) => showReach("server", state));
const view = new SessionView((...state) => showReach("feed", state), (id) => bar.setShown(id));
const loading = new Loading();
const form = new StartForm(bar, loading, (id) => {
  location.hash = `session=${encodeURIComponent(id)}`;
  list.refresh();
});

/** What is worse, of reaching the server and of the shown session's events. */
function showReach(part, state) {
  reach[part] = state;
  const fine = ([kind]) => kind === "connected" || kind === "closed";
  const [kind, text] = fine(reach.server) ? reach.feed : reach.server;
  byId("connection").dataset.state = fine([kind]) ? "connected" : kind;
  if (byId("connection").textContent !== text) byId("connection").textContent = text;
}

function onSessions(sessions) {
  loading.refresh();
  const info = sessions.find(({ id }) => id === view.id);
  if (info) view.updateInfo(info);
}

/** Take the token out of the address, where the terminal's link has it. Says if there was one. */
function takeToken() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (!asked.get("token")) return false;
  keepToken(asked.get("token"));
  asked.delete("token");
  history.replaceState(null, "", `${location.pathname}${location.search}${asked.size ? `#${asked}` : ""}`);
  return true;
}

/** Show what the address asks for. */
function route() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("session");
  // Links inside the page, such as the one that skips to the content, are no change of view.
  if (!wanted && location.hash && location.hash !== "#new") return;
  setSessionsOpen(false);
  list.setCurrent(wanted);
  byId("start-view").hidden = Boolean(wanted);
  document.title = wanted ? `${wanted} · Undertone` : "Undertone";
  showReach("feed", ["connected", "connected"]);
  if (!wanted) view.close();
  else if (wanted !== view.id) view.open(wanted);
}

function setSessionsOpen(open) {
  byId("sessions-toggle").setAttribute("aria-expanded", String(open));
  byId("sessions").classList.toggle("open", open);
}

/** Ask who we are; without an answer nothing else is worth asking. */
async function begin() {
  try {
    await get("/me");
  } catch (error) {
    showReach("server", [error.status === 0 ? "waiting" : "failed", error.message]);
    if (error.status === 0) setTimeout(begin, 2000);
    if (error.status === 0 || error.status === 401) return;
  }
  byId("token-form").hidden = true;
  list.refresh();
  route();
  try {
    const options = await get("/options");
    form.setOptions(options);
    view.setExports(options.exports);
  } catch (error) {
    showReach("server", ["failed", error.message]);
  }
}

auth.addEventListener("unauthorized", () => {
  const refused = "The server does not accept this token.";
  const wanted = "The server asks for an access token. On your own machine it is in the address that the server printed.";
  byId("token-message").textContent = token() ? refused : wanted;
  byId("token-form").hidden = false;
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  byId("token").value = "";
  begin();
});
byId("sessions-toggle").addEventListener("click", () => {
  setSessionsOpen(byId("sessions-toggle").getAttribute("aria-expanded") === "false");
});
addEventListener("hashchange", () => (takeToken() ? begin() : route()));
takeToken();
begin();
