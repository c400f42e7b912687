// What belongs to the whole page: its tabs, language, theme, and which server it talks to.
import { getJson } from "./api.js";
import { errorElement } from "./answer.js";
import { setUpChat, stopChat } from "./chat.js";
import { setUpCompletion, stopCompletion } from "./completion.js";
import { find } from "./dom.js";
import { setUpSettings } from "./settings.js";
import { setUpStatus } from "./status.js";
import { recall, remember } from "./storage.js";
import { language, setLanguage, text } from "./texts.js";

const TABS = ["chat", "completion", "status"];
const THEMES = { auto: "themeAuto", light: "themeLight", dark: "themeDark" };

function showTab(name) {
  for (const tab of TABS) {
    const button = find(`#tab-${tab}`);
    button.setAttribute("aria-selected", String(tab === name));
    button.tabIndex = tab === name ? 0 : -1;
    find(`#${tab}`).hidden = tab !== name;
  }
  history.replaceState(null, "", `#/${name}`);  // no element's id, to which the browser would move the focus
}

// Arrows move between the tabs, as in any tab list.
function setUpTabs() {
  TABS.forEach((name, index) => {
    const button = find(`#tab-${name}`);
    button.addEventListener("click", () => showTab(name));
    button.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: TABS.length - 1 }[key];
      if (step === undefined) return;
      const next = TABS[(index + step) % TABS.length];
      showTab(next);
      find(`#tab-${next}`).focus();
    });
  });
  const wanted = location.hash.slice(2);
  showTab(TABS.includes(wanted) ? wanted : TABS[0]);
}

function showTheme() {
  const theme = recall("theme") in THEMES ? recall("theme") : "auto";
  document.documentElement.dataset.theme = theme;
  const button = find("#theme"), name = text(THEMES[theme]);
  button.textContent = name;
  button.title = text("theme", name);
  button.setAttribute("aria-label", button.title);
}

function setUpLook() {
  document.addEventListener("languagechange", showTheme);
  setLanguage(recall("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
  find("#language").addEventListener("click", () => {
    setLanguage(language() === "zh" ? "en" : "zh");
    remember("language", language());
  });
  find("#theme").addEventListener("click", () => {
    const themes = Object.keys(THEMES);
    remember("theme", themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]);
    showTheme();
  });
}

function setUpSettingsSwitch() {
  const show = (isShown) => {
    find("#settings").hidden = !isShown;
    find("#settings-switch").setAttribute("aria-expanded", String(isShown));
  };
  show(matchMedia("(min-width: 60rem)").matches);
  find("#settings-switch").addEventListener("click", () => show(find("#settings").hidden));
}

// The model, its context and the server's version.
async function showServer() {
  const place = find("#server");
  try {
    const [{ data: [model] }, { version }] = await Promise.all([getJson("v1/models"), getJson("version")]);
    place.textContent = `${model.id} · ${text("contextLength")} ${model.max_model_len} · ${text("version")} ${version}`;
  } catch (error) {
    place.replaceChildren(errorElement(error));
  }
}

setUpSettings(showServer);
setUpLook();
setUpChat();
setUpCompletion();
setUpStatus();
setUpTabs();
setUpSettingsSwitch();
document.addEventListener("languagechange", showServer);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing) return;
  // What the reader sees comes first.
  if (find("#completion").hidden) stopChat() || stopCompletion();
  else stopCompletion() || stopChat();
});
showServer();
