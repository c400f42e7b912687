// Plain completion: the model continues the text in place.
import { postStream } from "./api.js";
import { Meter, endWords, errorElement } from "./answer.js";
import { find } from "./dom.js";
import { requestSettings } from "./settings.js";
import { text } from "./texts.js";

let abort = null;  // of the completion under way
let before = null;  // the text that the last completion began with

export function setUpCompletion() {
  find("#completion-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!abort) complete();
  });
  find("#text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    find("#completion-form").requestSubmit();
  });
  find("#completion-stop").addEventListener("click", stopCompletion);
  find("#undo").addEventListener("click", () => {
    find("#text").value = before;
    find("#undo").disabled = true;
  });
}

// Ends the completion under way; false when there is none.
export function stopCompletion() {
  abort?.abort();
  return abort !== null;
}

async function complete() {
  const field = find("#text"), note = find("#completion-note");
  before = field.value;
  setBusy(new AbortController());
  const meter = new Meter();
  note.textContent = text("waiting");
  try {
    note.textContent = [await receive(field, meter, note), meter.words()].filter(Boolean).join(" · ");
  } catch (error) {
    if (error.name === "AbortError") note.textContent = `${text("ended_stopped")} · ${meter.words()}`;
    else note.replaceChildren(errorElement(error));
  } finally {
    setBusy(null);
  }
}

function setBusy(controller) {
  abort = controller;
  // The button that had the focus goes.
  const hasFocus = [find("#complete"), find("#completion-stop")].includes(document.activeElement);
  find("#text").readOnly = controller !== null;
  find("#complete").disabled = controller !== null;
  find("#completion-stop").hidden = controller === null;
  find("#undo").disabled = controller !== null;
  find("#completion-note").ariaBusy = String(controller !== null);  // it is read out in the end
  if (hasFocus) find(controller ? "#completion-stop" : "#text").focus();
}

async function receive(field, meter, note) {
  let end = null;
  // Without max_tokens the interface gives 16, which suits programs.
  const body = { prompt: field.value, max_tokens: 256, ...requestSettings() };
  for await (const chunk of postStream("v1/completions", body, abort.signal)) {
    meter.add(chunk);
    for (const choice of chunk.choices) {
      field.value += choice.text;
      if (choice.finish_reason) end = choice;
    }
    field.scrollTop = field.scrollHeight;
    note.textContent = meter.words();
  }
  return end ? endWords(end) : "";
}
