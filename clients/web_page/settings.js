// The settings of a request. An empty field is not sent: then the server's own default holds.
import { apiKey, setApiKey } from "./api.js";
import { find, make } from "./dom.js";
import { recall, remember } from "./storage.js";
import { say } from "./texts.js";

// Names are those of the request's JSON.
const NUMBERS = [
  { name: "temperature", step: 0.1, min: 0 }, { name: "top_p", step: 0.05, min: 0, max: 1 },
  { name: "top_k", step: 1, min: -1 }, { name: "min_p", step: 0.05, min: 0, max: 1 },
  { name: "max_tokens", step: 1, min: 1 }, { name: "seed", step: 1 },
  { name: "repetition_penalty", step: 0.05, min: 0 }, { name: "presence_penalty", step: 0.1, min: -2, max: 2 },
  { name: "frequency_penalty", step: 0.1, min: -2, max: 2 },
];

let values = {};  // by name, as entered

// Fills the form. `onKeyChange` is called when the reader has entered another key.
export function setUpSettings(onKeyChange) {
  const form = find("#settings");
  form.append(
    labelled("system", make("textarea", { name: "system", rows: 3 })),
    make("div", { className: "numbers" }, ...NUMBERS.map(({ name, ...range }) => labelled(
      name, make("input", { type: "number", name, data: { placeholder: "byServer" }, ...range })))),
    labelled("stopTexts", make("textarea", { name: "stop", rows: 2, spellcheck: false })),
    labelled("apiKey", make("input", { type: "password", name: "key", autocomplete: "off", value: apiKey(),
                                       data: { placeholder: "apiKeyHint" } })),
    make("button", { type: "button", id: "reset", data: { text: "reset" } }));
  load();
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => event.target.name !== "key" && save());
  form.elements.key.addEventListener("change", (event) => {
    setApiKey(event.target.value);
    onKeyChange();
  });
  find("#reset").addEventListener("click", () => {
    for (const name of fieldNames()) form.elements[name].value = "";
    save();
  });
}

function labelled(words, field) {
  return make("label", {}, say(make("span", { data: { text: words } })), field);
}

function fieldNames() {
  return ["system", "stop", ...NUMBERS.map(({ name }) => name)];
}

function load() {
  try {
    values = JSON.parse(recall("settings")) ?? {};
  } catch {
    values = {};
  }
  for (const name of fieldNames()) find("#settings").elements[name].value = values[name] ?? "";
}

function save() {
  values = Object.fromEntries(fieldNames().map((name) => [name, find("#settings").elements[name].value]));
  remember("settings", JSON.stringify(values));
}

export function systemPrompt() {
  return (values.system ?? "").trim();
}

// The members of a request's JSON that the settings stand for.
export function requestSettings() {
  const body = {};
  for (const { name } of NUMBERS) {
    if (values[name]) body[name] = Number(values[name]);
  }
  const stops = (values.stop ?? "").split("\n").filter((line) => line !== "");
  if (stops.length > 0) body.stop = stops;
  return body;
}
