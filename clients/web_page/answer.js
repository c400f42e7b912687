// One generation, as both tabs have it: its timing, how it ended, and errors in words.
import { ApiError } from "./api.js";
import { make } from "./dom.js";
import { text } from "./texts.js";

const MIN_SPAN_MS = 100;  // between two chunks, for a speed to be told from them

// Takes the chunks of a stream as they come.
export class Meter {
  #start = performance.now();
  #first = null;  // {time, tokens} when the first output had come
  #last = null;
  usage = null;

  add(chunk) {
    if (chunk.usage) this.usage = chunk.usage;
    if (chunk.choices.length === 0) return;
    const point = { time: performance.now(), tokens: chunk.usage?.completion_tokens };
    this.#first ??= point;
    this.#last = point;
  }

  // "first token 0.12 s · 35 tokens/s · 20 + 64 tokens", as far as it is known.
  words() {
    const parts = [];
    if (this.#first) parts.push(text("firstToken", ((this.#first.time - this.#start) / 1000).toFixed(2)));
    const speed = this.#speed();
    if (speed !== null) parts.push(text("speed", speed.toFixed(speed < 10 ? 1 : 0)));
    if (this.usage) parts.push(text("tokens", this.usage.prompt_tokens, this.usage.completion_tokens));
    return parts.join(" · ");
  }

  // Of the tokens behind those of the first chunk. An answer that came nearly at once is measured from its request on.
  #speed() {
    if (!this.#first || !this.usage) return null;
    const span = this.#last.time - this.#first.time;
    const isBrief = span < MIN_SPAN_MS || this.#first.tokens === undefined;
    const tokens = this.usage.completion_tokens - (isBrief ? 0 : this.#first.tokens);
    return tokens / (isBrief ? this.#last.time - this.#start : span) * 1000;
  }
}

// Why a choice ended: `finish_reason`, or the text that it was to stop at.
export function endWords({ finish_reason: reason, stop_reason: match }) {
  return typeof match === "string" ? text("ended_matched", match) : text(`ended_${reason}`);
}

// What went wrong, what to do, and the server's own words.
export function errorElement(error) {
  if (!(error instanceof ApiError)) throw error;
  const box = make("div", { className: "error", role: "alert" }, make("p", {}, adviceFor(error)));
  if (error.message) box.append(make("p", { className: "said" }, text("serverSays", error.message)));
  return box;
}

function adviceFor({ status, code, param, retryAfter }) {
  if (status === 0) return text(code === "cut_off" ? "errorCut" : "errorNetwork");
  if (status === 401 || status === 403) return text("errorKey");
  if (code === "context_length_exceeded") return text("errorLong");
  if (status === 429) return text("errorBusy", retryAfter ?? 1);
  if (status === 503 || code === "draining") return text("errorNotReady");
  if (status === 400 && param) return text("errorSetting", param);
  return text(status < 500 ? "errorRequest" : "errorServer");
}
