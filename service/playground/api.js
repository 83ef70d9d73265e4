// The API: requests to the service that serves this page, and its errors.

import { keep, recall } from "./memory.js";

const KEY = "dit-key";
export const ROOT = new URL(".", document.baseURI);

/** An answer other than the one asked for; `status` is 0 where no answer came. */
export class Problem extends Error {
  constructor(body, retryAfter) {
    super(body.detail ?? body.title ?? "unknown error");
    this.status = body.status ?? 0;
    this.errors = body.errors ?? [];
    this.nearest = body.nearest ?? [];
    this.type = body.type ?? "";
    this.limit = body.limit; // of the key, with status 429
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get passes() {
    return [0, 429, 502, 503].includes(this.status);
  }
}

export const key = {
  get: () => recall(KEY, "sessionStorage") ?? "",
  set: (value) => keep(KEY, value, "sessionStorage"),
};

/** Seeds as strings of digits: they can be larger than what a number holds exactly. */
export const readJson = (text) => JSON.parse(text.replace(/"seed": ?(\d+)/g, '"seed":"$1"'));

/** The reverse, for a body whose `seed` is a string. */
export const writeJson = (value, indent) =>
  JSON.stringify(value, null, indent).replace(/"seed":( ?)"(\d+)"/, '"seed":$1$2');

/** fetch, with the key; raises a Problem for every answer but success. */
export async function send(path, { headers = {}, signal, ...options } = {}) {
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { headers, signal, ...options });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ detail: "The service does not answer." });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

export const getJson = async (path, options) => readJson(await (await send(path, options)).text());

async function problemOf(response) {
  const text = await response.text().catch(() => "");
  const seconds = Number(response.headers.get("Retry-After")) || undefined;
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = { detail: `${response.status} ${response.statusText}` }; // a proxy's own page
  }
  return new Problem({ ...body, status: response.status }, seconds);
}
