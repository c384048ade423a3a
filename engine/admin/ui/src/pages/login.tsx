import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { login, me } from "../access.ts";
import { Notice, sentence } from "../components/notice.tsx";
import { go, path } from "../router.ts";
import { RpcError } from "../rpc.ts";

/** Asks for a token; what was asked for is shown after that. */
export function Login(): JSX.Element {
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (): Promise<void> => {
    setBusy(true);
    setError("");
    try {
      await login(token.trim());
      if (path.peek() === "/login") go("/", {}, { replace: true });
    } catch (e) {
      setError(sentence(e instanceof RpcError ? e : new RpcError("unknown", String(e))));
    }
    setBusy(false);
  };
  const inside = me.value && !me.value.loginRequired;
  return (
    <main class="login">
      <form class="panel stack" aria-labelledby="login-title" onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <div class="row">
          <svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M9 7v18M23 7v18M9 16h14" /></svg>
          <h1 id="login-title">Heddle</h1>
        </div>
        {inside ? <p>You are logged in as {me.value?.name || "anonymous"}. Another token takes its place.</p> : <p class="muted">This engine asks for a token. Its operators hand them out; <code>engine token</code> makes one.</p>}
        <label class="field">Token
          <input type="password" value={token} onInput={(e) => setToken(e.currentTarget.value)} autocomplete="current-password" autoFocus required />
        </label>
        {error ? <Notice kind="error">{error}</Notice> : null}
        <div class="row">
          <button type="submit" class="primary" disabled={busy || token.trim() === ""}>{busy ? "Logging in…" : "Log in"}</button>
          {inside ? <button type="button" onClick={() => go("/")}>Back</button> : null}
        </div>
      </form>
    </main>
  );
}
