// Live figures of the server, from its metrics; nothing is asked for while they can't be seen.
import { getText } from "./api.js";
import { errorElement } from "./answer.js";
import { Chart } from "./chart.js";
import { find, make } from "./dom.js";
import { Scrape, mean, quantile, rate, ratio } from "./prometheus.js";
import { text } from "./texts.js";

const INTERVAL_MS = 2000;
const LENGTH = 90;         // values of a chart: three minutes
const WINDOW = 10;         // scrapes that quantiles look back: they need some observations

const count = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
const percent = (value) => `${count(value * 100)} %`;
const precise = (value) => Number(value.toPrecision(3));
const seconds = (value) => value < 1 ? `${precise(value * 1000)} ms` : `${precise(value)} s`;
const mebibytes = (bytes) => count(bytes / 2 ** 20);
const quantiles = (name) => (scrapes) => [0.5, 0.9].map((share) => quantile(scrapes[0], scrapes.at(-1), name, share));
const lastTwo = (scrapes) => scrapes.slice(-2);

// `values` are computed from the last scrapes, of which there are two at least.
const CHARTS = [
  { title: "requests", series: ["running", "waitingRequests"], format: count, minimumTop: 4,
    values: (scrapes) => ["expertd_requests_running", "expertd_requests_waiting"].map(
      (name) => scrapes.at(-1).sum(name)) },
  { title: "throughput", series: ["output", "prompt"], format: count, minimumTop: 10,
    values: (scrapes) => ["expertd_generated_tokens_total", "expertd_prompt_tokens_total"].map(
      (name) => rate(...lastTwo(scrapes), name)) },
  { title: "kvUse", series: ["inUse"], format: percent, minimumTop: 0.1,
    values: (scrapes) => [scrapes.at(-1).sum("expertd_kv_cache_usage_ratio")] },
  { title: "firstTokenTime", series: ["half", "p90"], format: seconds, minimumTop: 0.01,
    values: quantiles("expertd_time_to_first_token_seconds") },
  { title: "betweenTokens", series: ["half", "p90"], format: seconds, minimumTop: 0.001,
    values: quantiles("expertd_inter_token_seconds") },
  { title: "latency", series: ["half", "p90"], format: seconds, minimumTop: 0.1,
    values: quantiles("expertd_request_seconds") },
  { title: "batch", series: ["average"], format: count, minimumTop: 4,
    values: (scrapes) => [mean(...lastTwo(scrapes), "expertd_step_sequences")] },
  { title: "prefixHits", series: ["share"], format: percent, minimumTop: 1,
    values: (scrapes) => [ratio(scrapes[0], scrapes.at(-1), "expertd_prefix_cache_hits_total",
                                "expertd_prefix_cache_queries_total")] },
  { title: "ends", series: ["finished", "rejected"], format: count, minimumTop: 1,
    values: (scrapes) => ["expertd_requests_finished_total", "expertd_requests_rejected_total"].map(
      (name) => rate(...lastTwo(scrapes), name)) },
];

let charts = [];
let scrapes = [];
let timer = null;
let round = 0;  // counts what asks for figures, of which only the last goes on

export function setUpStatus() {
  charts = CHARTS.map(({ values, ...look }) => ({ values, chart: new Chart({ ...look, length: LENGTH }) }));
  find("#charts").append(...charts.map(({ chart }) => chart.element));
  document.addEventListener("visibilitychange", followVisibility);
  new MutationObserver(followVisibility).observe(find("#status"), { attributeFilter: ["hidden"] });
}

function followVisibility() {
  clearTimeout(timer);
  ++round;
  if (!document.hidden && !find("#status").hidden) tick();
}

async function tick() {
  const mine = round;
  try {
    show(new Scrape(await getText("metrics"), performance.now()));
    note(make("p", {}, text("live")));
  } catch (error) {
    // A server without metrics, or a front that keeps them to itself.
    const isWithheld = [403, 404, 502].includes(error.status);
    note(isWithheld ? make("p", {}, text("noFigures")) : errorElement(error));
  }
  if (mine === round) timer = setTimeout(tick, INTERVAL_MS);
}

// Words that stand there already are not read out again.
function note(element) {
  const place = find("#status-note");
  if (place.textContent !== element.textContent) place.replaceChildren(element);
}

function show(scrape) {
  // A pause is no interval; neither is a restart, at which counters begin anew.
  const last = scrapes.at(-1);
  const isContinued = last && scrape.time - last.time < 3 * INTERVAL_MS &&
    scrape.sum("expertd_generated_tokens_total") >= last.sum("expertd_generated_tokens_total");
  scrapes = isContinued ? [...scrapes, scrape].slice(-WINDOW) : [scrape];
  if (scrapes.length > 1) {
    for (const { values, chart } of charts) chart.add(values(scrapes));
  }
  showFacts(scrape);
}

function showFacts(scrape) {
  const [isa] = scrape.samples("expertd_cpu_isa_info"), [weights] = scrape.samples("expertd_weight_bytes");
  const facts = [["isa", isa?.labels.isa ?? "–"], ["threads", scrape.sum("expertd_threads")]];
  if (weights) facts.push(["weights", `${mebibytes(weights.value)} MiB ${weights.labels.dtype}`]);
  find("#facts").replaceChildren(...facts.map(
    ([name, value]) => make("div", {}, make("dt", {}, text(name)), make("dd", {}, String(value)))));
}
