// What the page keeps, under names of its own: in "localStorage", or in "sessionStorage", which goes with the tab.
// Browsers may refuse either: then it lasts as long as the page.

const fallback = new Map();

// null: nothing was kept.
export function recall(name, area = "localStorage") {
  try {
    return window[area].getItem(`expertd.${name}`);
  } catch {
    return fallback.get(name) ?? null;
  }
}

export function remember(name, value, area = "localStorage") {
  try {
    window[area].setItem(`expertd.${name}`, value);
  } catch {
    fallback.set(name, value);
  }
}
