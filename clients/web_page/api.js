// Calls of the server: with the reader's key, errors as ApiError, streams as the events' JSON.
import { recall, remember } from "./storage.js";

const STATUS_OF = { server_error: 500, rate_limit_error: 429 };  // of errors amid a stream, which have none
const STREAM_OPTIONS = { include_usage: true, continuous_usage_stats: true };

export function apiKey() {
  return recall("key", "sessionStorage") ?? "";
}

// Keeps what of `key` can stand in a header.
export function setApiKey(key) {
  remember("key", key.replace(/[^!-~]/g, ""), "sessionStorage");
}

// What the server answered instead of what was asked for; `status` 0: nothing at all, or a stream that broke off.
export class ApiError extends Error {
  constructor(status, { message = "", code = null, param = null } = {}, retryAfter = null) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

// Paths are relative to the page's own, which may stand behind a proxy's prefix.
async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (apiKey()) headers.authorization = `Bearer ${apiKey()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "unreachable" });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new ApiError(response.status, body.error, response.headers.get("retry-after"));
}

export async function getJson(path) {
  return (await call(path)).json();
}

export async function getText(path) {
  return (await call(path)).text();
}

// Posts `body` and yields the events of the streamed answer, up to [DONE]. Aborting `signal` cancels the generation.
export async function* postStream(path, body, signal) {
  const response = await call(path, {
    method: "POST", signal, headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: STREAM_OPTIONS }),
  });
  for await (const data of serverSentEvents(response.body)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(STATUS_OF[event.error.type] ?? 400, event.error);
    yield event;
  }
  throw new ApiError(0, { code: "cut_off" });
}

// The data of each event. Lines end with \n here; comments, which keep a silent stream alive, have no data.
async function* serverSentEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const lines = event.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length > 0) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(0, { code: "cut_off" });
  } finally {
    reader.cancel().catch(() => {});
  }
}
