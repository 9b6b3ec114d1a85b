// The page: which view the address asks for, who is signed in, and what holds for all views.

import { auth, get, getReadiness, keepToken, token } from "./api.js";
import { AnalysisBar } from "./bar.js";
import { Home } from "./home.js";
import { SessionPage } from "./page.js";
import { SignIn } from "./signin.js";
import { StartForm } from "./start.js";
import { html, render, useEffect, useLayoutEffect, useReducer, useState } from "./vendor/preact-htm.js";

const OFTEN_MS = 1000; // between two looks whether the server is ready, while it is not
const SELDOM_MS = 10_000; // and while it is

/** Take the token out of the address, where the terminal's link has it. Says if there was one. */
function takeToken() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (!asked.get("token")) return false;
  keepToken(asked.get("token"));
  asked.delete("token");
  history.replaceState(null, "", `${location.pathname}${location.search}${asked.size ? `#${asked}` : ""}`);
  return true;
}

/** What the address asks for: {view, id, moment}; null for a link inside the page, which changes no view. */
function route() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.get("session")) return { view: "session", id: asked.get("session"), moment: Number(asked.get("t") ?? NaN) };
  if (location.hash === "#new") return { view: "new" };
  return ["", "#", "#home"].includes(location.hash) ? { view: "home" } : null;
}

function useRoute() {
  const [shown, setShown] = useState(route() ?? { view: "home" });
  // Before anything is painted: an address that changes earlier would be missed.
  useLayoutEffect(() => {
    const follow = () => {
      if (takeToken()) return location.reload();
      const asked = route();
      if (asked) setShown(asked);
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return shown;
}

/** The caller's scopes and the server's options, or why they are not known: {me, options, problem, isRefused}. */
function useServer() {
  const [server, setServer] = useState({});
  const [asked, askAgain] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    let timer = null;
    const ask = async () => {
      try {
        const [me, options] = await Promise.all([get("/me"), get("/options")]);
        setServer({ me, options });
      } catch (error) {
        setServer({ problem: error.message, isRefused: error.status === 401 });
        if (error.status !== 401) timer = setTimeout(ask, 2000);
      }
    };
    ask();
    const refused = () => setServer({ isRefused: true, problem: "" });
    auth.addEventListener("unauthorized", refused);
    return () => {
      clearTimeout(timer);
      auth.removeEventListener("unauthorized", refused);
    };
  }, [asked]);
  return [server, askAgain];
}

/** The server's parts that are loading or away, asked for again while there are any, and whenever `key` changes. */
function useReadiness(key) {
  const [ready, setReady] = useState(null);
  useEffect(() => {
    let timer = null;
    const ask = async () => {
      timer = setTimeout(ask, SELDOM_MS);
      if (document.hidden) return;
      let found = null;
      try {
        found = await getReadiness();
      } catch {
        // That the server does not answer is said elsewhere.
      }
      setReady(found);
      const isWaiting = found === null || found.loading?.length > 0 || found.redis === false || found.ray === false;
      if (!isWaiting) return;
      clearTimeout(timer);
      timer = setTimeout(ask, OFTEN_MS);
    };
    ask();
    return () => clearTimeout(timer);
  }, [key]);
  return ready;
}

function Notices({ server, ready, lost }) {
  const loading = ready?.loading ?? [];
  const away = ["redis", "ray"]
    .filter((part) => ready?.[part] === false)
    .map((part) => ({ redis: "Redis", ray: "Ray" })[part]);
  return html`
    ${lost && html`<p role="alert" class="strip failed">${lost}</p>`}
    ${server.problem && html`<p id="connection" role="status" class="strip failed">${server.problem}</p>`}
    ${
      away.length > 0 &&
      html`
      <p id="away" role="status" class="strip failed">
        ${away.join(" and ")} ${away.length > 1 ? "are" : "is"} away. What is shown may be old; it goes on by itself.
      </p>`
    }
    ${
      loading.length > 0 &&
      html`
      <p id="loading" role="status" class="strip">Loading ${loading.join(", ")} … Labels begin when all is there.</p>`
    }
  `;
}

function App() {
  const shown = useRoute();
  const [server, askAgain] = useServer();
  const [{ capture, lost }, setCaptured] = useState({ capture: null, lost: "" });
  const [draft, askLoading] = useReducer((count) => count + 1, 0);
  const [theme, setTheme] = useState(document.documentElement.dataset.theme);
  const ready = useReadiness(`${shown.view} ${draft}`);
  useEffect(() => {
    const follow = () => setTheme(document.documentElement.dataset.theme);
    addEventListener("themechange", follow);
    return () => removeEventListener("themechange", follow);
  }, []);
  useEffect(() => {
    document.title = { home: "Undertone", new: "Start a session · Undertone" }[shown.view] ?? document.title;
  }, [shown.view]);
  if (server.isRefused) {
    return html`<${SignIn} wasRefused=${Boolean(token())} onToken=${(value) => (keepToken(value), askAgain())} />`;
  }
  const may = (scope) => server.me?.scopes.includes(scope) ?? false;
  const setCapture = (held, reason) =>
    setCaptured({ capture: held, lost: reason ? `This page stopped listening: ${reason}.` : "" });
  const common = { may, options: server.options, capture, setCapture };
  return html`
    <a class="skip" href="#main">Skip to content</a>
    <header id="top">
      <a id="brand" href="#home">Undertone</a>
      <nav aria-label="Views">
        <a href="#home" aria-current=${shown.view === "home" ? "page" : null}>Sessions</a>
        <a href="#new" id="new-session" aria-current=${shown.view === "new" ? "page" : null}>Start a session</a>
      </nav>
      <button id="theme-toggle" type="button" aria-label=${theme === "dark" ? "Light theme" : "Dark theme"}
        onClick=${() => dispatchEvent(new Event("themetoggle"))}>${theme === "dark" ? "☀ Light" : "☾ Dark"}</button>
    </header>
    <${Notices} server=${server} ready=${ready} lost=${lost} />
    ${capture && html`<${AnalysisBar} capture=${capture} />`}
    ${server.me && shown.view === "home" && html`<${Home} ...${common} />`}
    ${server.me && shown.view === "new" && html`<${StartForm} ...${common} onAsking=${askLoading} />`}
    ${
      server.me &&
      shown.view === "session" &&
      html`<${SessionPage} key=${shown.id} id=${shown.id} moment=${shown.moment} ready=${ready} theme=${theme} ...${common} />`
    }
    <footer>
      <p>The labels are perceived expression as a model judges it; they do not say what somebody feels.</p>
    </footer>
  `;
}

takeToken();
render(html`<${App} />`, document.getElementById("app"));
