// Talking to the server: who is signed in, requests, streams.

const KEY = "mos.key";
const USER = "mos.user";

/** What a request answers that failed; `status` is 0 when the server could not be reached. */
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The key is kept for this tab only, and forgotten with it. */
export const keeper = {
  get key() { return sessionStorage.getItem(KEY) ?? ""; },
  get user() { return sessionStorage.getItem(USER) ?? ""; },
  sign(key, user) {
    sessionStorage.setItem(KEY, key);
    if (user) sessionStorage.setItem(USER, user);
    else sessionStorage.removeItem(USER);
  },
  forget() {
    sessionStorage.removeItem(KEY);
    sessionStorage.removeItem(USER);
  },
};

function address(path, query = {}) {
  const parameters = new URLSearchParams();
  if (keeper.user) parameters.set("user_id", keeper.user);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") parameters.set(name, value);
  }
  const text = parameters.toString();
  return `/dashboard/api/${path}${text ? `?${text}` : ""}`;
}

async function ask(method, path, { query, body, signal } = {}) {
  const headers = {};
  if (keeper.key) headers.Authorization = `Bearer ${keeper.key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path, query), {
      method, headers, signal, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The server did not answer.");
  }
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try {
    const told = await response.json();
    if (typeof told.message === "string" && told.message) message = told.message;
  } catch { /* Not JSON: the status says enough. */ }
  if (response.status === 401) document.dispatchEvent(new CustomEvent("mos-signed-out"));
  throw new Failure(response.status, message);
}

async function json(method, path, options) {
  return (await ask(method, path, options)).json();
}

export const api = {
  get: (path, query) => json("GET", path, { query }),
  post: (path, query, body) => json("POST", path, { query, body }),
  put: (path, query, body) => json("PUT", path, { query, body }),
  remove: (path, query) => json("DELETE", path, { query }),
};

export function memoryPath(id, operation = "") {
  return `memories/${encodeURIComponent(id)}${operation && `/${operation}`}`;
}

/** Reads a stream of events until it ends, calling `each` with what every one holds. */
export async function follow(path, query, signal, each) {
  const response = await ask("GET", path, { query, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value.replaceAll("\r\n", "\n");
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) each(JSON.parse(data.map((line) => line.slice(5).trimStart()).join("\n")));
    }
  }
}
