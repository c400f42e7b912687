// The Markdown that models write most, as DOM nodes: paragraphs, headings, lists, code fences, quotes; bold, italics
// and code within a line. Whatever else stands there stays as it was written. It is read again with every piece of a
// stream, so its time must grow with the text alone: spans of a line are bounded.
import { make } from "./dom.js";

const FENCE = /^\s*(```+|~~~+)[^`]*$/;
const HEADING = /^#{1,6}\s+(.*)$/;
const ITEM = /^\s*(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const CODE = /(`{1,4})(.{1,500}?)\1/;
const BOLD = /\*\*(\S(?:.{0,500}?\S)?)\*\*/;
const ITALIC = /\*([^\s*](?:[^*]{0,500}?[^\s*])?)\*/;
const INLINE = new RegExp([CODE, BOLD, ITALIC].map(({ source }) => source).join("|"), "s");

// The blocks of `source`; an unfinished one, as in the middle of a stream, counts as finished.
export function renderMarkdown(source) {
  const lines = source.split("\n").reverse();  // the next line is the last
  const blocks = document.createDocumentFragment();
  while (lines.length > 0) {
    if (lines.at(-1).trim() === "") lines.pop();
    else blocks.append(takeBlock(lines));
  }
  return blocks;
}

// Removes the lines of one block and returns its element.
function takeBlock(lines) {
  const line = lines.at(-1);
  if (FENCE.test(line)) return takeFence(lines);
  if (ITEM.test(line)) return takeList(lines);
  if (HEADING.test(line)) return make("p", { className: "heading" }, renderInline(HEADING.exec(lines.pop())[1]));
  if (line.startsWith(">")) {
    const quoted = takeWhile(lines, (next) => next.startsWith(">")).map((next) => next.replace(/^>\s?/, ""));
    return make("blockquote", {}, renderInline(quoted.join("\n")));
  }
  return make("p", {}, renderInline([lines.pop(), ...takeWhile(lines, isPlain)].join("\n")));
}

function isPlain(line) {
  return line.trim() !== "" && !line.startsWith(">") && ![FENCE, ITEM, HEADING].some((kind) => kind.test(line));
}

function takeFence(lines) {
  const [, mark] = FENCE.exec(lines.pop());
  const code = takeWhile(lines, (line) => !line.trim().startsWith(mark));
  lines.pop();
  return make("pre", {}, make("code", {}, code.join("\n")));
}

function takeList(lines) {
  const [, number] = ITEM.exec(lines.at(-1));
  const list = number === undefined ? make("ul") : make("ol", { start: Number(number) });
  for (;;) {
    const match = lines.length > 0 ? ITEM.exec(lines.at(-1)) : null;
    if (!match || (match[1] === undefined) !== (number === undefined)) return list;
    lines.pop();
    const more = takeWhile(lines, (line) => /^\s/.test(line) && isPlain(line)).map((line) => line.trim());
    list.append(make("li", {}, renderInline([match[2], ...more].join("\n"))));
  }
}

function takeWhile(lines, holds) {
  const taken = [];
  while (lines.length > 0 && holds(lines.at(-1))) taken.push(lines.pop());
  return taken;
}

// Text and elements; lines stay lines, by the style sheet.
function renderInline(source) {
  const nodes = document.createDocumentFragment();
  let rest = source;
  for (let match; (match = INLINE.exec(rest)) !== null; rest = rest.slice(match.index + match[0].length)) {
    const [, , code, bold, italic] = match;
    nodes.append(rest.slice(0, match.index));
    if (code !== undefined) nodes.append(make("code", {}, code));
    else nodes.append(make(bold !== undefined ? "strong" : "em", {}, renderInline(bold ?? italic)));
  }
  nodes.append(rest);
  return nodes;
}
