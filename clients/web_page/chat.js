// The chat: a list of turns, of which the last may be under way.
import { postStream } from "./api.js";
import { Meter, endWords, errorElement } from "./answer.js";
import { copy, find, make } from "./dom.js";
import { renderMarkdown } from "./markdown.js";
import { splitReasoning } from "./reasoning.js";
import { requestSettings, systemPrompt } from "./settings.js";
import { say, text } from "./texts.js";

const MIN_PAUSE_MS = 20, MAX_PAUSE_MS = 250;  // between two showings of an answer that grows

// {question, content, reasoning}: content is "" until the model has written some.
let turns = [];
let abort = null;  // of the turn under way

export function setUpChat() {
  const message = find("#message");
  find("#chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const question = message.value.trim();
    if (abort || question === "") return;
    message.value = "";
    ask(question);
  });
  message.addEventListener("keydown", (event) => {
    // An input method's own Enter, which picks a word, has isComposing (keyCode 229 in Safari).
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    find("#chat-form").requestSubmit();
  });
  find("#chat-stop").addEventListener("click", () => {
    stopChat();
    message.focus();
  });
  find("#clear").addEventListener("click", clear);
}

// Ends the answer under way; false when there is none.
export function stopChat() {
  abort?.abort();
  return abort !== null;
}

function clear() {
  stopChat();
  turns = [];
  find("#log").replaceChildren(say(make("p", { className: "welcome", data: { text: "welcome" } })));
  find("#message").focus();
}

// What the model is to read: turns that failed without a word are left out.
function messagesFor(question) {
  const messages = systemPrompt() ? [{ role: "system", content: systemPrompt() }] : [];
  for (const turn of turns) {
    if (turn.content === "") continue;
    messages.push({ role: "user", content: turn.question }, { role: "assistant", content: turn.content });
  }
  return [...messages, { role: "user", content: question }];
}

async function ask(question) {
  const messages = messagesFor(question);
  const turn = { question, content: "", reasoning: "" };
  turns.push(turn);
  find("#log .welcome")?.remove();
  for (const button of document.querySelectorAll(".regenerate")) button.remove();
  const view = new TurnView(turn);
  find("#log").append(view.element);
  view.element.scrollIntoView({ block: "end" });
  find("#message").focus({ preventScroll: true });

  abort = new AbortController();
  find("#chat-stop").hidden = false;
  find("#send").disabled = true;
  const meter = new Meter();
  try {
    view.end(await receive(messages, turn, view, meter), meter);
  } catch (error) {
    view.end(error.name === "AbortError" ? text("ended_stopped") : text("ended_error"), meter);
    if (error.name !== "AbortError") view.showError(error);
  } finally {
    abort = null;
    find("#chat-stop").hidden = true;
    find("#send").disabled = false;
  }
}

// Streams the answer into `turn` and `view`; returns in words how it ended.
async function receive(messages, turn, view, meter) {
  let raw = "", split = "", end = null;  // `split`: reasoning that the server has told apart
  for await (const chunk of postStream("v1/chat/completions", { messages, ...requestSettings() }, abort.signal)) {
    meter.add(chunk);
    for (const { delta, ...rest } of chunk.choices) {
      raw += delta.content ?? "";
      split += delta.reasoning_content ?? "";
      if (rest.finish_reason) end = rest;
    }
    Object.assign(turn, split ? { content: raw, reasoning: split } : splitReasoning(raw));
    view.update(meter);
  }
  return end ? endWords(end) : "";
}

// The elements of a turn.
class TurnView {
  #turn;
  #answer = make("div", { className: "answer", role: "group", "aria-label": text("model"), "aria-busy": "true" });
  #reasoning = make("details", { className: "reasoning", hidden: true }, make("summary"), make("div"));
  #content = make("div", { className: "content" }, make("p", { className: "pending" }, text("waiting")));
  #figures = make("p", { className: "figures" });
  #timer = null;
  #cost = 0;  // milliseconds that the last showing took

  constructor(turn) {
    this.#turn = turn;
    this.#answer.append(this.#reasoning, this.#content, this.#figures);
    this.element = make("article", { className: "turn" }, make("div", { className: "question", role: "group", "aria-label": text("you") },
                             turn.question),
                        this.#answer);
  }

  // Shows what the turn has by then soon: the longer the answer, the later, so that the page stays quick.
  update(meter) {
    this.#timer ??= setTimeout(() => {
      const start = performance.now();
      this.#timer = null;
      this.#show(text("thinking"));
      this.#figures.textContent = meter.words();
      this.#cost = performance.now() - start;
    }, Math.min(Math.max(MIN_PAUSE_MS, 5 * this.#cost), MAX_PAUSE_MS));
  }

  end(reason, meter) {
    clearTimeout(this.#timer);
    this.#show(text("reasoning"));
    this.#figures.textContent = [reason, meter.words()].filter(Boolean).join(" · ");
    this.#answer.append(this.#buttons());
    this.#answer.removeAttribute("aria-busy");  // now it is read out, once
    this.#follow();
  }

  showError(error) {
    this.#figures.before(errorElement(error));
    this.#follow();
  }

  #show(reasoningWords) {
    const { reasoning, content } = this.#turn;
    const follows = this.#isAtEnd();
    this.#reasoning.hidden = reasoning === "";
    this.#reasoning.firstChild.textContent = content === "" ? reasoningWords : text("reasoning");
    this.#reasoning.lastChild.textContent = reasoning;
    this.#content.replaceChildren(renderMarkdown(content));
    if (follows) this.#follow();
  }

  #buttons() {
    const copyButton = make("button", { type: "button", className: "copy", data: { text: "copy" } });
    copyButton.hidden = this.#turn.content === "";
    copyButton.addEventListener("click", async () => {
      await copy(this.#turn.content);
      copyButton.textContent = text("copied");
    });
    const again = make("button", { type: "button", className: "regenerate", data: { text: "regenerate" } });
    again.addEventListener("click", () => {
      if (abort) return;
      turns.pop();
      this.element.remove();
      ask(this.#turn.question);
    });
    return make("div", { className: "buttons" }, say(copyButton), say(again));
  }

  // A reader who has scrolled up stays there.
  #isAtEnd() {
    const log = find("#log");
    return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  }

  #follow() {
    find("#log").scrollTop = find("#log").scrollHeight;
  }
}
