// Builds elements. Text always becomes text nodes: nothing on this page is ever parsed as HTML.

// <tag properties…>children…</tag>; a child is a node or a string. `data` is of data attributes.
export function make(tag, { data = {}, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function find(selector) {
  return document.querySelector(selector);
}

// Puts `words` on the clipboard. Pages that came without TLS from another machine have only the old way.
export async function copy(words) {
  if (navigator.clipboard) return navigator.clipboard.writeText(words);
  const focused = document.activeElement;
  const field = make("textarea", { value: words });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  focused?.focus();
}
