// The page that asks for an access token.

import { html, useState } from "./vendor/preact-htm.js";

export function SignIn({ wasRefused, onToken }) {
  const [value, setValue] = useState("");
  const submit = (event) => {
    event.preventDefault();
    onToken(value.trim());
    setValue("");
  };
  return html`
    <main id="main" class="narrow">
      <h1>Undertone</h1>
      <form id="token-form" class="panel" onSubmit=${submit}>
        <h2>Sign in</h2>
        <p class="hint">
          This server asks for an access token. On your own machine it is in the address that the server printed; else
          whoever runs the server makes one with <code>undertone token</code>.
        </p>
        <div class="field">
          <label for="token">Access token</label>
          <input id="token" type="password" autocomplete="off" spellcheck="false" required value=${value}
            onInput=${({ target }) => setValue(target.value)} />
        </div>
        <p id="token-message" role="alert">${wasRefused ? "The server does not accept this token." : ""}</p>
        <button type="submit" class="primary">Sign in</button>
        <p class="hint">It is kept for this tab alone, until the tab is closed.</p>
      </form>
    </main>
  `;
}
