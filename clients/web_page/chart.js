// A line chart of live figures in SVG, with a heading, the last values and a scale from zero.
import { make } from "./dom.js";
import { say } from "./texts.js";

const WIDTH = 300, HEIGHT = 96;  // of the plot, in the SVG's own units; the style sheet stretches it
const SVG = "http://www.w3.org/2000/svg";

function makeSvg(tag, attributes = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// 1, 2 or 5 times a power of ten, at least `value`.
function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((bound) => bound >= value * (1 - 1e-9));
}

export class Chart {
  #series;
  #format;
  #minimumTop;
  #points;  // one array of values (null: unknown) a series
  #values = [];
  #lines = [];
  #svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  #top = make("span", { className: "top" });

  // `title` and the names of `series` are words of texts.js; `format` makes text of a value; the scale reaches at least
  // to `minimumTop`; as many values as `length` are shown.
  constructor({ title, series, format, minimumTop, length }) {
    this.#series = series;
    this.#format = format;
    this.#minimumTop = minimumTop;
    this.#points = series.map(() => Array(length).fill(null));
    const legend = make("dl", { className: "legend" });
    series.forEach((name, index) => {
      this.#values.push(make("dd", {}, "–"));
      legend.append(make("div", { className: `series${index}` },
                         say(make("dt", { data: { text: name } })), this.#values[index]));
      this.#lines.push(makeSvg("path", { class: `line series${index}`, "vector-effect": "non-scaling-stroke" }));
    });
    const grid = [0.5, HEIGHT / 2, HEIGHT - 0.5].map((y) => `M0 ${y}H${WIDTH}`).join("");
    this.#svg.append(makeSvg("path", { class: "grid", d: grid, "vector-effect": "non-scaling-stroke" }));
    this.#svg.append(...this.#lines);
    this.element = make("section", { className: "chart" }, say(make("h2", { data: { text: title } })), legend,
                        make("div", { className: "plot" }, this.#top, this.#svg));
  }

  // Adds a value for each series, null where it is unknown, and shows them.
  add(values) {
    values.forEach((value, index) => {
      this.#points[index].shift();
      this.#points[index].push(value);
      this.#values[index].textContent = value === null ? "–" : this.#format(value);
    });
    const top = niceCeiling(Math.max(this.#minimumTop, ...this.#points.flat()));
    this.#top.textContent = this.#format(top);
    this.#points.forEach((points, index) => this.#lines[index].setAttribute("d", pathOf(points, top)));
  }
}

// Values as a path; it has a gap where one is unknown. A value with none beside it becomes a dash that can be seen.
function pathOf(points, top) {
  let path = "";
  points.forEach((value, index) => {
    if (value === null) return;
    const x = index / (points.length - 1) * WIDTH, y = HEIGHT - value / top * (HEIGHT - 2) - 1;
    path += (points[index - 1] ?? null) === null ? `M${(x - 0.5).toFixed(1)} ${y.toFixed(1)}` : "";
    path += `L${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  return path;
}
