// Calls to an API behind Doorward. The cookies are the browser's business: no token is in sight here.

const root = "/api/v1";
let refreshing = null;

/** What the API refused. `code` is stable: "invalid_credentials", "session_ended", ... */
export class Refused extends Error {
  constructor(status, { code, detail } = {}) {
    super(detail ?? `the server answered ${status}`);
    Object.assign(this, { status, code });
  }
}

export const logIn = (credentials) => send("POST", "/login", credentials);
// This path lies under the refresh cookie's, so that the session is found by either cookie.
export const logOut = () => send("POST", "/refresh/logout");
export const confirmPassword = (password) => call("POST", "/reauthenticate", { password });

/** One request, once more with a new access token where the old one no longer counts. */
export async function call(method, path, body) {
  try {
    return await send(method, path, body);
  } catch (refused) {
    if (!refused.code?.startsWith("token_")) throw refused;
  }
  await refresh();
  return send(method, path, body);
}

/** Calls that find the token expired at once share one refresh. Other tabs may refresh meanwhile. */
function refresh() {
  refreshing ??= send("POST", "/refresh").finally(() => (refreshing = null));
  return refreshing;
}

async function send(method, path, body) {
  const json = body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(root + path, { method, ...json });
  const told = (answer.headers.get("Content-Type") ?? "").includes("json") ? await answer.json() : undefined;
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}
