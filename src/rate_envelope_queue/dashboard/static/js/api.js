// Requests. The token is exchanged for a cookie that scripts cannot read, and is then forgotten.

let csrf = "";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const answer = await fetch(path, { credentials: "same-origin", cache: "no-store", redirect: "error", ...options });
  let body = {};
  try {
    body = await answer.json();
  } catch { /* not ours */ }
  if (!answer.ok) throw new Refused(answer.status, String(body.error ?? `the server answered ${answer.status}`));
  return body;
}

function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) });
}

function remember(session) {
  csrf = String(session.csrf ?? "");
  return session.actions ?? [];
}

export const session = async () => remember(await request("api/session"));
export const logIn = async (token) => remember(await post("api/session", { token }));
export const act = (queue, action, body = {}) => post(`api/queues/${queue}/${action}`, body);

// The token in the fragment of the address, which is taken out of it.
export function tokenInAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) history.replaceState(null, "", location.pathname + location.search);
  return token;
}
