// Reads Prometheus's text format, and computes from two scrapes what happened between them.

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

// The samples of a scrape.
export class Scrape {
  #samples = new Map();  // name: [{labels, value}]

  constructor(page, time) {
    this.time = time;  // milliseconds
    for (const line of page.split("\n")) {
      const match = line.startsWith("#") ? null : SAMPLE.exec(line);
      if (!match) continue;
      const [, name, labels = "", value] = match;
      if (!this.#samples.has(name)) this.#samples.set(name, []);
      this.#samples.get(name).push({
        labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, label, text]) => [label, text])),
        value: value === "+Inf" ? Infinity : Number(value),
      });
    }
  }

  samples(name) {
    return this.#samples.get(name) ?? [];
  }

  // Of all samples of that name.
  sum(name) {
    return this.samples(name).reduce((total, { value }) => total + value, 0);
  }

  // {upper bound: observations up to it} of a histogram, over all its labels; bounds ascend.
  buckets(name) {
    const counts = new Map();
    for (const { labels, value } of this.samples(`${name}_bucket`)) {
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      counts.set(bound, (counts.get(bound) ?? 0) + value);
    }
    return new Map([...counts].sort(([a], [b]) => a - b));
  }
}

// The growth of a counter a second.
export function rate(earlier, later, name) {
  return (later.sum(name) - earlier.sum(name)) / ((later.time - earlier.time) / 1000);
}

// The growth of counter `part` for each one of counter `whole`; null when that has not grown.
export function ratio(earlier, later, part, whole) {
  const grown = later.sum(whole) - earlier.sum(whole);
  return grown > 0 ? (later.sum(part) - earlier.sum(part)) / grown : null;
}

// The mean of a histogram's observations between two scrapes; null when there were none.
export function mean(earlier, later, name) {
  return ratio(earlier, later, `${name}_sum`, `${name}_count`);
}

// A quantile (0 to 1) of a histogram's observations between two scrapes, by linear interpolation within its bucket, as
// histogram_quantile does it; null when there were none.
export function quantile(earlier, later, name, share) {
  const past = earlier.buckets(name);
  const counts = [...later.buckets(name)].map(([bound, count]) => [bound, count - (past.get(bound) ?? 0)]);
  const total = counts.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  const rank = share * total;
  const index = counts.findIndex(([, count]) => count >= rank);
  const [below, before] = index > 0 ? counts[index - 1] : [0, 0];
  const [bound, count] = counts[index];
  return bound === Infinity ? below : below + (bound - below) * (rank - before) / (count - before);
}
